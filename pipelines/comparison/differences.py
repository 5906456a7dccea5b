"""Finds the settings in which runs differ, and which of them somebody set."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from pipelines.comparison.runs import Run
from pipelines.console.formatting import setting

_IGNORED = {  # settings that differ between runs without being hyperparameters
    "trainer.default_root_dir", "trainer.logger", "checkpoint.filename", "ckpt_path", "config", "data.root",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.profiler", "trainer.log_every_n_steps",
}  # fmt: skip
_IGNORED_NAMES = ("dirpath", "id", "run_id")
_CLASSES = ("model", "data")  # what a run is, named before how it is set
_ELSEWHERE = {"--ckpt_path", "--print_config"}  # a resumed run has its settings from its folder


def differing(runs: Sequence[Run]) -> list[str]:
    """Returns the keys whose values differ among the runs that have settings, most frequent difference first.

    A key that only some runs have counts as differing, unless it belongs to a class that itself differs: where SGD is
    compared with Adam, momentum is not a difference of its own.
    """
    configured = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in configured for key in settings)
    differences: dict[str, int] = {}  # number of runs with another value than the most frequent one, by key
    for key in keys:
        if _is_ignored(key):
            continue
        values = Counter(comparable(settings[key]) for settings in configured if key in settings)
        missing = len(configured) - values.total()
        if len(values) > 1 or (missing and not any(key.startswith(f"{parent}.") for parent in differences)):
            differences[key] = values.total() - max(values.values())
    return sorted(differences, key=lambda key: (key not in _CLASSES, -differences[key]))


def varying(runs: Sequence[Run]) -> list[str]:
    """Returns the keys that are not the same in all runs, also those of classes that differ, in the runs' order."""
    configured = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in configured for key in settings if not _is_ignored(key))
    missing = object()
    return [
        key
        for key in keys
        if len({comparable(settings[key]) if key in settings else missing for settings in configured}) > 1
    ]


def _is_ignored(key: str) -> bool:
    """Returns whether a setting is about where a run writes or is tracked, rather than what it trains."""
    return key in _IGNORED or key.startswith("wandb.") or key.rsplit(".", 1)[-1] in _IGNORED_NAMES


def set_by_somebody(keys: Iterable[str], runs: Sequence[Run]) -> list[str]:
    """Returns those keys that the command of a run sets, or all if the commands don't tell.

    A default that changed between two versions, or a precision that the hardware lacks, differs without having been
    chosen. A command doesn't tell where it names a configuration file, resumes a run, or is not known.
    """
    commands = [_settings_of(run.status.command) for run in runs]
    if any(command is None for command in commands):
        return list(keys)
    given = {name for command in commands for name in command or ()}
    return [key for key in keys if any(key == name or key.startswith(f"{name}.") for name in given)]


def _settings_of(command: str) -> set[str] | None:
    """The keys that a command line sets; None if it has settings that it doesn't name."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    options = [word for word in words if word.startswith("--")]
    configs = [after for word, after in pairwise(words) if word == "--config"]
    configs += [word.split("=", 1)[1] for word in options if word.startswith("--config=")]
    named = {re.split(r"[=+]", word, maxsplit=1)[0] for word in options}
    if not options or named & _ELSEWHERE or any(not re.fullmatch(r"\w+", config) for config in configs):
        return None
    return {name.removeprefix("--") for name in named - {"--config"}}


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Returns the shortest ending of each dotted key that no other of them has, by key."""
    names: dict[str, str] = {}
    for key in keys:
        parts = key.split(".")
        endings = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        others = [f".{other}" for other in keys if other != key]
        names[key] = next((end for end in endings if not any(other.endswith(f".{end}") for other in others)), key)
    return names


def comparable(value: Any) -> str:
    """Returns a text that is equal for equal settings: for 1 and 1.0, but not for 1 and true."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "nan" if math.isnan(value) else repr(float(value)) if abs(value) < 2**53 else str(value)
    return f"{type(value).__name__} {setting(value)}"
