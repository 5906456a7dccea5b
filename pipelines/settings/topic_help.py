"""The help of one configuration: its settings with their values and descriptions."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from pipelines.console.formatting import setting
from pipelines.settings.classes import CLASS_KEYS, find_class, settings_of_class
from pipelines.settings.linked_settings import LINKED
from pipelines.settings.written_settings import WrittenSettings
from pipelines.tracking.wandb_options import OPTIONS, WandbOptions

_TRAINER = ("max_epochs", "max_steps", "max_time", "devices", "accelerator", "precision", "limit_train_batches",
            "accumulate_grad_batches", "gradient_clip_val", "fast_dev_run", "callbacks")  # fmt: skip
_SET_ELSEWHERE = (*LINKED, "images")  # by the data, or by another option
_NAME_WIDTH = 30


def topic_help(command: str, arguments: Sequence[str], topic: str) -> str:
    """Returns the help text of a command line with a configuration.

    Args:
        command: The command, such as "fit".
        arguments: The command line, with --config naming a file.
        topic: Name of the topic, or of the file.
    """
    written = WrittenSettings(arguments)
    lines = [f"usage: python -m pipelines.train {command} --config {topic} [--KEY VALUE ...]", ""]
    lines += _first_comment(arguments)
    for key in CLASS_KEYS:
        given = written.find(key)
        owner = find_class(given.value, key) if given else None
        if owner is None:
            lines += [f"{key}: {given.value}" if given else f"{key}: {_unset(key, written)}", ""]
            continue
        lines += [f"{key}: {owner.__name__}; another class: --{key} CLASS, its settings: --{key}.help CLASS"]
        lines += [*_settings(key, owner, list(settings_of_class(owner)), written), ""]
    lines += ["trainer, the most used:", *_settings("trainer", Trainer, _TRAINER, written), ""]
    lines += ["wandb, tracking on Weights & Biases:", *_settings("wandb", WandbOptions, OPTIONS, written), ""]
    for key, text in (
        ("seed_everything", "Seed of the weights, the order and the augmentation; 0 by default."),
        ("checkpoint.monitor", "Metric by which the best checkpoint is chosen; --checkpoint.mode is min or max."),
    ):
        found = written.find(key)
        lines += _line(key, found.value if found else "", text)
    lines += ["", f"All settings as YAML:  python -m pipelines.train {command} --config {topic} --print_config"]
    lines += [f"All of the trainer:    python -m pipelines.train {command} --help"]
    return "\n".join(lines)


def _unset(key: str, written: WrittenSettings) -> str:
    """Returns what a configuration without an optimizer or schedule has instead."""
    from modules.base.buffered_metrics import BufferedMetrics

    model = written.find("model")
    owner = find_class(model.value, "model") if model else None
    own = getattr(owner, "configure_optimizers", BufferedMetrics.configure_optimizers)
    sets_its_own = own is not BufferedMetrics.configure_optimizers
    if key in ("optimizer", "lr_scheduler") and sets_its_own:
        return "set by the model's own settings"
    return f"none; --{key} CLASS sets one"


def _first_comment(arguments: Sequence[str]) -> list[str]:
    words = list(arguments)
    files = [Path(words[n + 1]) for n, word in enumerate(words[:-1]) if word in ("--config", "-c")]
    line = files[0].read_text(encoding="utf-8").split("\n", 1)[0] if files else ""
    return [line.lstrip("# "), ""] if line.startswith("#") else []


def _settings(key: str, owner: type, names: Sequence[str], written: WrittenSettings) -> list[str]:
    described, parameters = dict(_argument_docs(owner)), inspect.signature(owner).parameters
    lines = []
    for name in names:
        if name in _SET_ELSEWHERE:
            continue
        given = written.find(f"{key}.{name}")
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        value = given.value if given else "" if default is inspect.Parameter.empty else _shown(default)
        lines += _line(f"{key}.{name}", value, described.get(name, ""))
    return lines


def _shown(value: Any) -> str:
    return "null" if value is None else setting(list(value) if isinstance(value, tuple) else value)


def _line(key: str, value: str, text: str) -> list[str]:
    """Returns the lines of one setting: its option, value and description."""
    text = re.sub(r"\bNone\b", "null", text)  # as the user writes it
    shown = value if len(value) <= _NAME_WIDTH else f"{value[:_NAME_WIDTH]}…"
    option = f"  --{key} {shown}".rstrip()
    width = max(60, shutil.get_terminal_size().columns)
    if len(option) < _NAME_WIDTH + 2:
        return textwrap.wrap(
            f"{option:<{_NAME_WIDTH + 2}}{text}", width, subsequent_indent=" " * (_NAME_WIDTH + 2), drop_whitespace=True
        )
    indent = " " * (_NAME_WIDTH + 2)
    return [option, *textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)]


def _argument_docs(owner: type) -> Iterator[tuple[str, str]]:
    """Yields the arguments that the docstrings of a class and its base classes describe, with their first sentence."""
    for base in reversed(inspect.getmro(owner)):
        for text in (vars(base).get("__doc__"), getattr(vars(base).get("__init__"), "__doc__", None)):
            section = re.search(r"^( *)Args:\n((?:\1 +.*\n|\s*\n)+)", f"{inspect.cleandoc(text or '')}\n", re.M)
            if section is None:
                continue
            body = textwrap.dedent(section[2])
            for match in re.finditer(r"^(\w+)(?: \([^)]*\))?: ?((?:.*\n)(?:[ \t]+.*\n|\n(?=[ \t]))*)", body, re.M):
                words = " ".join(match[2].split())
                yield match[1], re.split(r"(?<=\.)\s", words, maxsplit=1)[0]
