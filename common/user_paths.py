"""Paths as users write them in settings and files, where no shell expands ~ and $SCRATCH."""

import os
import re
from pathlib import Path

from common.errors import UserError

_HOME = re.compile(r"~[\w.-]*(?=/|$)")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})(?=/|$)")


def expand(path: str) -> str:
    """Returns a path with its leading ~, ~NAME or $VARIABLE replaced, and any other text as it is.

    Raises:
        ValueError: If there is no such variable.
    """
    if _HOME.match(path):
        try:
            return str(Path(path).expanduser())
        except RuntimeError:  # nobody of that name
            return path
    if match := _VARIABLE.match(path):
        name = match[1] or match[2]
        if name not in os.environ:
            raise UserError(f"{path} begins with the variable {name}, which is not set; set it, or write the path out.")
        return os.environ[name] + path[match.end() :]
    return path


def user_path(path: str | Path) -> Path:
    """Returns a path of the user with ~ and a leading variable replaced.

    Raises:
        ValueError: If there is no such variable.
    """
    return Path(expand(str(path)))
