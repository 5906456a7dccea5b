"""What became of a run, as `status.json` in its folder: still running, finished, failed, stopped or killed.

A run that is killed writes nothing more, so its file still says "running". What tells the two apart is a lock on the
file, which the system gives back when a process dies, however it dies.
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

from common.errors import UserError

State = Literal["running", "finished", "failed", "stopped", "killed", "unknown"]


@dataclass
class Status:
    """One attempt at a run; a run that goes on after a kill starts another.

    Attributes:
        state: "running" while it trains; "finished"; "failed" with an error; "stopped" by Ctrl-C, SIGTERM or a sweep;
            "killed" if it ended without a word; "unknown" if the folder has no status.
        reason: the error in one sentence, or what stopped it.
        command: what was typed.
        host: the machine's name.
        pid: the process of rank 0.
        started: ISO 8601 with time zone.
        ended: likewise; None while it runs, or if it was killed.
    """

    state: State = "unknown"
    reason: str | None = None
    command: str = ""
    host: str = ""
    pid: int = 0
    started: str | None = None
    ended: str | None = None


class StatusFile:
    """Writes a run's status and holds its lock until the process ends.

    Args:
        folder: the run's folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self._file: TextIO = (folder / "status.json").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"The run in {folder} is still going; stop it first, or start another run.") from None
        except OSError:
            pass  # a file system without locks: the run goes on, and looks killed to readers until it ends
        command = shlex.join(["python", "-m", "pipelines.train", *sys.argv[1:]])
        self._status = Status("running", None, command, socket.gethostname(), os.getpid(), _now())
        self._write()

    def end(self, state: State, reason: str | None = None) -> None:
        """Says how the run ended; only the first call counts."""
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
    """What became of the run in a folder; "unknown" where the file is missing or unreadable."""
    try:
        with (folder / "status.json").open() as file:
            status = Status(**json.load(file))
            if status.state == "running":
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    status.state = "killed"  # nobody holds it any more
                except BlockingIOError:
                    pass
            return status
    except (OSError, ValueError, TypeError):
        return Status()


def give_reason(folder: Path, reason: str) -> None:
    """Notes why a run ended, for whoever ended it from outside; the run itself only knows by which signal.

    Args:
        folder: the run's, whose process is gone; one without a readable status is left as it is.
        reason: in a few words.
    """
    status = read_status(folder)
    if status.state in ("stopped", "killed"):
        status.reason = reason
        temporary = folder / f".status.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(asdict(status), indent=1))
        temporary.replace(folder / "status.json")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
