"""The settings of a command line as the user wrote them, in options and in files, each with its location."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.yaml_text import read_yaml_file, yaml_leaves


@dataclass(frozen=True)
class Written:
    """A setting as it is written.

    Attributes:
        key: Dotted key without `init_args` and `class_path`, such as "optimizer.lr", or "optimizer" for its class.
        value: The value, such as "1e-3".
        place: Where it is, such as "mine.yaml, line 5"; empty for the command line.
    """

    key: str
    value: str
    place: str


class WrittenSettings:
    """All settings of a command line, in the order in which they take effect.

    Args:
        arguments: The command line, with --config naming files.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.settings: list[Written] = []
        words = list(arguments)
        while words:
            option, equals, value = words.pop(0).partition("=")
            if not option.startswith("-"):
                continue
            if not equals:
                value = words.pop(0) if words and not words[0].startswith("--") else ""
            if option in ("--config", "-c"):
                self._add_file(Path(value))
            else:
                self.settings.append(Written(_plain(option.lstrip("-").removesuffix("+")), value, ""))

    def _add_file(self, file: Path) -> None:
        try:
            text = read_yaml_file(file)
        except (OSError, ValueError):
            return
        for key, line, value in yaml_leaves(text):
            # A JSON file has the values of a trial and is generated, so its location is not shown.
            self.settings.append(Written(_plain(key), value, "" if file.suffix == ".json" else f"{file}, line {line}"))

    def find(self, key: str) -> Written | None:
        """Returns the setting of a key that takes effect: the last one."""
        return next((setting for setting in reversed(self.settings) if setting.key == key), None)

    def find_value(self, value: str, within: str = "") -> Written | None:
        """Returns the last setting that is written as `value`, of the key `within` or one below it."""
        return next(
            (
                setting
                for setting in reversed(self.settings)
                if setting.value == value and (not within or f"{setting.key}.".startswith(f"{within}."))
            ),
            None,
        )


def _plain(key: str) -> str:
    return re.sub(r"\.(init_args|class_path)(?=\.|$)", "", key)
