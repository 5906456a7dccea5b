"""Reads runs that are being watched: again only if their files or their state have changed."""

from pathlib import Path

from pipelines.comparison.runs import RUN_FILES, Run, read_run
from pipelines.run.status import Status, read_status


class RunCache:
    """Runs by folder, each read on first use and after each change of its files."""

    def __init__(self) -> None:
        self._runs: dict[Path, tuple[object, Run]] = {}

    def read(self, folder: Path) -> Run:
        """Returns the run in a folder; the same object as before if nothing has changed."""
        version = _version(folder)  # before the run: a change meanwhile is read the next time
        known = self._runs.get(folder)
        if known is None or known[0] != version:
            known = self._runs[folder] = version, read_run(folder)
        return known[1]


def _version(folder: Path) -> tuple[Status, list[tuple[int, int] | None]]:
    """Returns what differs after a change: the status, which a kill changes too, and time and size of each file."""
    return read_status(folder), [_time_and_size(folder / name) for name in RUN_FILES]


def _time_and_size(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
