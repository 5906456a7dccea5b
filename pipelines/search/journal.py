"""The journal of a sweep, `journal.log`: Optuna's record of its trials, one line of JSON for each change.

Optuna numbers trials by the order of their lines, so a lost line would move results to other points. Each line
therefore has its number and a checksum, which are checked whenever it is read.
"""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from common.atomic_files import named_errors
from common.errors import UserError
from common.file_locks import locked

_CHECKSUM = b',"crc":'  # begins the end of a line


def open_journal(folder: Path) -> JournalStorage:
    """Opens the journal in a sweep's folder, or creates it."""
    return JournalStorage(Journal(folder))


class Journal(BaseJournalBackend):
    """The journal file: one process at a time appends; readers need no lock, and so no permission to write.

    Optuna's own locks are not released when a process is killed; they expire after half a minute.

    Lines of sweeps from before there were checksums have none.

    Args:
        folder: Folder of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "journal.log"
        self._lock = folder / "journal.lock"
        if not self._file.exists():
            self._file.touch()
        self._starts = [0]  # byte at which each line begins, and the end of the last complete line that was read
        self._has_checksums = False

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yields the lines from a number on; leaves out an incomplete last one, which a process is writing.

        Raises:
            ValueError: If a line is damaged or missing; names the line.
        """
        first = min(log_number_from, len(self._starts) - 1)
        with self._file.open("rb") as file:
            file.seek(self._starts[first])
            for number, line in enumerate(file, first):
                if not line.endswith(b"\n"):
                    return
                content = self._checked(number, line)
                if number == len(self._starts) - 1:
                    self._starts.append(self._starts[-1] + len(line))
                if number >= log_number_from:
                    yield content

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends lines; overwrites an incomplete last line, which a kill or a full disk has left."""
        with locked(self._lock):
            for _ in self.read_logs(len(self._starts) - 1):  # what other processes have written
                pass
            number = len(self._starts) - 1
            lines = [_with_checksum({"line": number + index, **log}) for index, log in enumerate(logs)]
            with named_errors(self._file), self._file.open("r+b") as file:
                file.truncate(self._starts[-1])
                file.seek(self._starts[-1])
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())

    def _checked(self, number: int, line: bytes) -> dict[str, Any]:
        body, has_checksum, checksum = line.rstrip().rpartition(_CHECKSUM)
        try:
            content: dict[str, Any] = json.loads(line)
            if has_checksum:
                self._has_checksums = True
                valid = int(checksum.removesuffix(b"}")) == zlib.crc32(body)
            else:
                valid = not self._has_checksums
        except ValueError:
            valid = False
        if not valid:
            raise self._damaged(f"is damaged in line {number + 1}")
        if has_checksum and content["line"] != number:
            raise self._damaged(f"lacks a line before line {number + 1}, or has one too many")
        return content

    def _damaged(self, problem: str) -> UserError:
        return UserError(
            f"{self._file} {problem}; restore the file from a copy, or start a new sweep. Deleting lines would give "
            "results to the wrong points."
        )


def _with_checksum(log: dict[str, Any]) -> bytes:
    body = json.dumps(log, separators=(",", ":")).encode()[:-1]
    return body + _CHECKSUM + b"%d}\n" % zlib.crc32(body)
