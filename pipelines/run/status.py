"""Status of a run, `status.json` in its folder: running, finished, failed, stopped or killed.

The file of a killed run still says "running". A lock on the file tells the two apart: the system releases it when the
process ends, however it ends.
"""

import fcntl
import json
import os
import shlex
import socket
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

from common.atomic_files import atomic_write
from common.errors import UserError

State = Literal["running", "finished", "failed", "stopped", "killed", "unknown"]


@dataclass
class Status:
    """Status of one attempt at a run; resuming starts another attempt.

    Attributes:
        state: "running" while it trains; "finished"; "failed" with an error; "stopped" by Ctrl-C, SIGTERM or a sweep;
            "killed" if the process ended without writing a state; "unknown" if the folder has no status.
        reason: Error message, or what stopped the run.
        command: Command line.
        host: Name of the machine.
        pid: Process id of rank 0.
        started: Start time, ISO 8601 with time zone.
        ended: End time in the same format; None while it runs, or if it was killed.
    """

    state: State = "unknown"
    reason: str | None = None
    command: str = ""
    host: str = ""
    pid: int = 0
    started: str | None = None
    ended: str | None = None


class StatusFile:
    """Writes the status of a run and holds its lock until the process ends.

    Args:
        folder: Existing folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._file: TextIO = (folder / "status.json").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"The run in {folder} is still running; stop it first, or start another run.") from None
        except OSError:
            pass  # a file system without locks: readers take the run for killed until it ends
        command = shlex.join(["python", "-m", "pipelines.train", *sys.argv[1:]])
        self._status = Status("running", None, command, socket.gethostname(), os.getpid(), _now())
        self._write()

    def end(self, state: State, reason: str | None = None) -> None:
        """Records how the run ended; only the first call has an effect."""
        if self._file.closed:
            return
        self._status.state, self._status.reason, self._status.ended = state, reason, _now()
        self._write()
        self._file.close()

    def _write(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        json.dump(asdict(self._status), self._file, indent=1)
        self._file.flush()


def read_status(folder: Path) -> Status:
    """Returns the status of the run in a folder; "unknown" if the file is missing or unreadable."""
    try:
        with (folder / "status.json").open() as file:
            status = Status(**json.load(file))
            if status.state == "running":
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    status.state = "killed"  # no process holds the lock
                except BlockingIOError:
                    pass
            return status
    except (OSError, ValueError, TypeError):
        return Status()


def give_reason(folder: Path, reason: str) -> None:
    """Records why a run was ended from outside; the run itself only knows the signal.

    Args:
        folder: Folder of the run, whose process has ended; left as it is if its status is unreadable.
        reason: Reason in a few words.
    """
    status = read_status(folder)
    if status.state in ("stopped", "killed"):
        status.reason = reason
        with atomic_write(folder / "status.json") as temporary:
            temporary.write_text(json.dumps(asdict(status), indent=1))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
