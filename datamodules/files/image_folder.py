"""Finds image files by the names in an annotation file, which may be written otherwise than on this disk."""

import unicodedata
from functools import cached_property
from os import scandir
from pathlib import Path


class ImageFolder:
    """A folder of images, each subfolder of which is listed once: looking up every file would take far longer.

    A name that is not there is looked for without regard to case, which Windows ignores, and to how accents are
    composed, in which macOS differs.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listed: dict[str, _Names] = {}

    def find(self, name: str) -> Path | None:
        """Returns the path of a file, given its name with folders below this one; None if there is none."""
        folder, _, base = name.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = _Names(self.path / folder)
        found = self._listed[folder].find(base)
        return None if found is None else self.path / folder / found


class _Names:
    def __init__(self, folder: Path) -> None:
        try:
            with scandir(folder) as entries:
                self.names = {entry.name for entry in entries}
        except OSError:
            self.names = set()

    @cached_property
    def _by_plain_name(self) -> dict[str, str | None]:
        """Names by their plain form; None where two have the same."""
        plain: dict[str, str | None] = {}
        for name in self.names:
            plain[_plain(name)] = None if _plain(name) in plain else name
        return plain

    def find(self, name: str) -> str | None:
        return name if name in self.names else self._by_plain_name.get(_plain(name))


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
