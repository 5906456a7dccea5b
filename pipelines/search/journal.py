"""The journal of a sweep, `journal.log`: Optuna's record of its trials, one line of JSON for each change."""

import json
from pathlib import Path
from typing import Any, cast

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from common.errors import UserError
from pipelines.search.locks import FileLock


def open_journal(folder: Path) -> JournalStorage:
    """Opens the journal in a sweep's folder, or creates it."""
    lock = cast(Any, FileLock(folder / "journal.lock"))
    return JournalStorage(JournalFileBackend(str(folder / "journal.log"), lock_obj=lock))


def check_journal(folder: Path) -> None:
    """Finds a damaged line before Optuna does, and drops an incomplete last line, which a kill cut short.

    Raises:
        ValueError: If a line is damaged. The message has its number.
    """
    file = folder / "journal.log"
    with FileLock(folder / "journal.lock"):
        content = file.read_bytes()
        complete, _, rest = content.rpartition(b"\n")
        for number, line in enumerate(complete.split(b"\n") if complete else [], 1):
            try:
                json.loads(line)
            except ValueError:
                raise UserError(
                    f"{file} is damaged in line {number}; delete that line or restore the file, then resume."
                ) from None
        if rest:
            with file.open("r+b") as journal:
                journal.truncate(len(content) - len(rest))
