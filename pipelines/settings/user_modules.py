"""Finds the user's classes: in modules beside the configuration file, or in the working folder.

The first line of a run's config.yaml names the folder of these modules, so the run's folder is enough to load the run.
"""

import os
import sys
from pathlib import Path

from pipelines.run.topics import CONFIGS

_MARK = "# classes in "
_folders: list[Path] = []


def find_modules_of(config: Path) -> None:
    """Makes the modules beside a configuration file importable, after all others, so that they hide none."""
    folder = config.resolve().parent
    with config.open(encoding="utf-8", errors="replace") as file:
        line = file.readline().rstrip("\n")
    if line.startswith(_MARK):
        folder = Path(line.removeprefix(_MARK))
    for added in (Path.cwd(), folder):
        if str(added) not in sys.path and added != CONFIGS:
            sys.path.append(str(added))
    if folder not in (CONFIGS, Path.cwd(), *_folders):
        _folders.append(folder)


def first_line() -> str:
    """Returns the first line of a run's config.yaml: names the folder of the user's classes, if any were used."""
    if not _folders:
        return ""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    parents = {os.path.dirname(file) for file in files if file}  # noqa: PTH120  # thousands, in a millisecond
    used = [folder for folder in _folders if str(folder) in parents]
    return f"{_MARK}{used[-1]}\n" if used else ""
