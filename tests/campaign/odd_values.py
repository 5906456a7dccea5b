"""Values as users and programs write them, few of which a setting accepts: for YAML and for command lines alike."""

from random import Random
from typing import Any

# Either small or so large that nothing tries to hold it: what lies between would merely fill the memory.
_ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 0.5, -0.5, 0.001, 1e+300, 10**12, -(10**12), 10**30, 2**63, 2**64, 10**400,
    float("nan"), float("inf"), float("-inf"), "", " ", "abc", "None", "null", "nul", "1e-3", "1e", "0x10", "1_000",
    "1,5", "0.1.2", "½", "é", "🎲", "\x00", "a\nb", "-", "--", "~", "~/nowhere", "/", "/dev/null", "/nonexistent/x",
    ".", "..", "../..", "a b", "[1", "{a: 1", "{}", "[]", [], {}, [1], [0], [-1], [None], ["a"], [[]], {"a": 1},
    {"class_path": "os"}, {"class_path": "torch.nn.Linear"}, {"class_path": None}, {"init_args": {}},
    "torch.optim.Adam", "Adam", "adam", "builtins.eval", "os.system", "modules", "Namespace", "inf", "nan", "yes",
    "off", "2024-01-01", "12:30:00", "x" * 20_000, "%s", "${x}", "$HOME", "*", "?", "!x", "&x", "@", "#", "0", "-0",
    "+1", "1.", ".5", "1 ", "01", "max", "auto", "cpu", "gpu", "bf16-mixed", "16", "val/accuracy", "train/loss",
    "min", "mode",
]  # fmt: skip


def odd_value(random: Random) -> Any:
    """Draws one, as YAML or JSON would hold it."""
    return random.choice(_ODD)


def near_value(random: Random, value: Any) -> Any:
    """Draws one near to a right value: of the same type, or in another form."""
    if isinstance(value, bool):
        return random.choice([not value, str(value), int(value), "yes", "No"])
    if isinstance(value, int):
        return random.choice([-value, value + 1, value * 2, 0, str(value), float(value), value + 0.5, [value], 10**12])
    if isinstance(value, float):
        return random.choice([-value, value * 10, 0.0, str(value), int(value), [value], f"{value}%", 1.0, 2.0, 1e30])
    if isinstance(value, str):
        return random.choice([value.upper(), value + "s", value[:-1], f" {value}", [value], value * 2, {value: None}])
    if isinstance(value, list):
        return random.choice([value * 2, value[:1], value[::-1], str(value), [value], dict.fromkeys(map(str, value))])
    return odd_value(random)
