"""Status of a run, `status.json` in its folder: running, finished, failed, stopped or killed.

The file of a killed run still says "running". A lock on the file tells the two apart: the system releases it when the
process ends, however it ends. The file is written in place and never replaced, so that the lock stays on it. It has
a few hundred bytes and needs no new block of the disk, so the last status is written even on a full disk.
"""

import json
import os
import shlex
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from common.errors import UserError
from common.file_locks import close_locked, is_locked, open_locked
from pipelines.tracking.secrets import hide_arguments

State = Literal["running", "finished", "failed", "stopped", "killed", "unknown"]

_MAX_REASON = 2000  # characters of an error message
_TRIES, _TRY_SECONDS = 10, 0.05  # a reader such as `compare` holds the lock for an instant


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

    A finished run that is resumed stays finished until `begin`: an attempt that ends before its first step has changed
    nothing.

    Args:
        folder: Existing folder of the run.

    Raises:
        ValueError: If another process holds the lock.
        OSError: If the file can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "status.json"
        descriptor = open_locked(self._path, wait=False)
        for _ in range(_TRIES):
            if descriptor is None:
                time.sleep(_TRY_SECONDS)
                descriptor = open_locked(self._path, wait=False)
        if descriptor is None:
            running = read_status(folder)
            raise UserError(
                f"The run in {folder} is still running; stop it first (process {running.pid} on {running.host}), or "
                "start another run."
            )
        self._descriptor: int | None = descriptor
        before = _parse(_read(descriptor))
        self._earlier = before if before.state == "finished" else None
        command = shlex.join(["python", "-m", "pipelines.train", *hide_arguments(sys.argv[1:])])
        self._status = Status("running", None, command, socket.gethostname(), os.getpid(), _now())
        try:
            _write(descriptor, self._path, self._status, self._earlier)
        except OSError:
            close_locked(descriptor)
            raise

    def begin(self) -> None:
        """Records that this attempt has made a step; from now on its status is the run's."""
        if self._earlier is not None and self._descriptor is not None:
            self._earlier = None
            _write(self._descriptor, self._path, self._status)

    def end(self, state: State, reason: str | None = None) -> None:
        """Records how the run ended; only the first call has an effect, and a disk that refuses it is only reported."""
        if self._descriptor is None:
            return
        self._status.state, self._status.ended = state, _now()
        self._status.reason = None if reason is None else reason[:_MAX_REASON]
        try:
            _write(self._descriptor, self._path, self._earlier or self._status)
        except OSError as error:
            print(f"warning: {self._path} can't be written ({error.strerror}).", file=sys.stderr)
        close_locked(self._descriptor)
        self._descriptor = None


def read_status(folder: Path) -> Status:
    """Returns the status of the run in a folder; "unknown" if the file is missing or unreadable."""
    try:
        descriptor = os.open(folder / "status.json", os.O_RDONLY)
    except OSError:
        return Status()
    try:
        text = _read(descriptor)
        return _parse(text, alive='"running"' in text and is_locked(descriptor))
    except OSError:
        return Status()
    finally:
        os.close(descriptor)


def give_reason(folder: Path, reason: str) -> None:
    """Records why a run was ended from outside; the run itself only knows the signal.

    Args:
        folder: Folder of the run, whose process has ended; left as it is if it runs, or its status is unreadable.
        reason: Reason in a few words.
    """
    path = folder / "status.json"
    descriptor = open_locked(path, wait=False) if path.is_file() else None
    if descriptor is None:
        return
    try:
        status = _parse(_read(descriptor))
        if status.state in ("stopped", "killed"):
            _write(descriptor, path, replace(status, reason=reason))
    finally:
        close_locked(descriptor)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode(errors="replace")


def _parse(text: str, alive: bool = False) -> Status:
    """Returns the status that a file means; "unknown" if it can't be read.

    Args:
        text: Content of the file.
        alive: Whether a process holds the file's lock.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        earlier = content.pop("earlier", None)
        status = Status(**content)
        if status.state != "running" or alive:
            return status
        return replace(status, state="killed") if earlier is None else Status(**earlier)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return Status()


def _write(descriptor: int, path: Path, status: Status, earlier: Status | None = None) -> None:
    """Writes a status over the one in the file; at no time is the file anything but one complete status."""
    content = asdict(status) if earlier is None else {**asdict(status), "earlier": asdict(earlier)}
    text = json.dumps(content, indent=1).encode()
    size = os.fstat(descriptor).st_size
    try:
        written = os.pwrite(descriptor, text.ljust(size), 0)
        if written < len(text):
            os.pwrite(descriptor, text[written:], written)  # reports why the first write was cut short
        os.ftruncate(descriptor, len(text))
    except OSError as error:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
