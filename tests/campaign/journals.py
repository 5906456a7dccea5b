"""Damaged sweeps: lines of the journal that are gone, twice there or damaged, an edited sweep file, foreign values."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.case import Case, Command, Damage, Expect
from tests.campaign.damage import damaged_file
from tests.campaign.odd_values import near_value, odd_value

_SWEEP = "logs/sweeps/grid"
_SHOW, _BEST = Command("sweep", ("show", _SWEEP)), Command("sweep", ("best", _SWEEP))
_RESUME = Command("sweep", ("resume", _SWEEP, "--parallel", "2"))
_RUN = Command("sweep", ("run", "grid.yaml", "--engine", "local", "--parallel", "2", "--run-cap", "2"))


def case(random: Random) -> Case:
    """Draws one."""
    kind = random.choice(["lines", "lines", "bytes", "sweep.yaml", "sweep file"])
    expect = Expect.SAME if kind in ("lines", "bytes") else Expect.SENTENCE
    if kind == "lines":
        label, damage = _other_lines(random)
    elif kind == "bytes":
        label, damage = damaged_file(random, f"{_SWEEP}/journal.log")
    else:
        label, damage = _edited(random, f"{_SWEEP}/sweep.yaml" if kind == "sweep.yaml" else "grid.yaml")
    if kind == "sweep file":
        return Case("sweep file", label, (_RUN,), damage)
    first = random.choice([_SHOW, _BEST, _RESUME])
    return Case("sweep", label, (first, _SHOW), damage, expect)


def _other_lines(random: Random) -> tuple[str, Damage]:
    how, at, other = random.choice(["gone", "twice", "exchanged", "empty", "a list"]), random.random(), random.random()

    def damage(folder: Path) -> str:
        file = folder / _SWEEP / "journal.log"
        lines = file.read_bytes().splitlines(keepends=True)
        i, j = int(at * len(lines)), int(other * len(lines))
        if how == "exchanged":
            lines[i], lines[j] = lines[j], lines[i]
        else:
            lines[i : i + 1] = {"gone": [], "twice": [lines[i]] * 2, "empty": [b"\n"], "a list": [b"[1]\n"]}[how]
        file.write_bytes(b"".join(lines))
        return f"line {i + 1} of {len(lines)}"

    return f"a line of journal.log {how} at {at:.2f}", damage


def _edited(random: Random, name: str) -> tuple[str, Damage]:
    draw = random.getrandbits(32)

    def damage(folder: Path) -> str:
        file, draws = folder / name, Random(draw)
        content: Any = json.loads(file.read_text()) if name == "grid.yaml" else _load(file)
        words = _changed(content, draws)
        file.write_text(json.dumps(content))
        return words

    return f"an entry of {name} changed by draw {draw}", damage


def _load(file: Path) -> Any:
    import yaml

    return yaml.safe_load(file.read_text())


def _changed(content: dict[str, Any], random: Random) -> str:
    parameters = [
        {"min": 0, "max": 2**32 - 1}, {"min": 0.0, "max": 1.0},
        {"distribution": "log_uniform", "min": 1e-4, "max": 0.1},
        {"distribution": "log_uniform_values", "min": 0, "max": 1}, {"values": [None, 1]}, {"values": []},
        {"values": [1, 1]}, {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0},
        {"distribution": "normal", "mu": 0, "sigma": -1}, {"distribution": "constant", "value": 3},
        {"distribution": "beta", "min": 0, "max": 1}, {"min": 5, "max": 1}, {}, None, 7,
        {"values": [[1], {"a": 2}, "[/b]"]}, {"values": "abc"}, {"min": "a", "max": "b"}, {"value": float("nan")},
        {"min": 1}, {"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 8},
        {"distribution": "categorical", "values": [1, 2]},
        {"distribution": "categorical", "values": [1, 2], "probabilities": [0.5, 0.6]},
        {"distribution": "inv_log_uniform_values"},
    ]  # fmt: skip
    how = random.choice(["parameter", "parameter", "name", "setting", "odd", "gone"])
    if how == "parameter":
        name = random.choice(["x", "y"])
        content["parameters"][name] = random.choice(parameters)
        return f"{name} is {content['parameters'][name]}"
    if how == "name":
        name = random.choice(["z[/y]", "[hog]", "a b", "a=b", "--x", "é", "", "x.y.z", "x" * 300, "a\nb", "%", "#"])
        content["parameters"][name] = {"values": [1, 2]}
        return f"a parameter is called {name!r:.40}"
    if how == "setting":
        more: dict[str, Any] = {
            "run_cap": odd_value(random), "name": odd_value(random),
            "early_terminate": {"type": "hyperband", "min_iter": 1},
            "early_terminate ": {"type": "hyperband", "max_iter": 0, "s": 2}, "method": "bayes",
            "program": "train.py", "project": "p", "description": "[/b]", "metrics": [], "command": ["python"],
            "run_cap ": 0,
        }  # fmt: skip
        name = random.choice(sorted(more))
        content[name.strip()] = more[name]
        return f"{name.strip()} is {more[name]!r:.80}"
    name = random.choice(sorted(content))
    if how == "gone":
        del content[name]
        return f"{name} is missing"
    content[name] = random.choice([odd_value(random), near_value(random, content[name])])
    return f"{name} is {content[name]!r:.80}"
