"""The process of a pack, which trains several trials, and a handle for each of them."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

from pipelines.trials.warm_server import WarmProcess, WarmServer


@dataclass(frozen=True)
class PackJob:
    """A trial of a pack.

    Attributes:
        number: Number of the trial.
        arguments: Arguments of `pipelines.train`.
        environment: All environment variables.
        log: File that its output is appended to.
    """

    number: int
    arguments: list[str]
    environment: dict[str, str]
    log: Path


class PackProcess:
    """A process that trains several trials, in a process group of its own.

    Args:
        jobs: The trials.
        folder: Working folder.
        environment: All environment variables of the process.
        log: File for what the process prints outside of its trials.
        server: Process from which it is forked; None to start a new one.

    Attributes:
        trials: A handle for each trial, in the order of the jobs.
        notes: Sentences for the user that were not fetched yet.
    """

    def __init__(
        self,
        jobs: list[PackJob],
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        server: WarmServer | None,
    ) -> None:
        self._connection, theirs = Pipe()
        self.notes: list[str] = []
        self.trials = [PackedTrial(job.number, self) for job in jobs]
        with theirs:
            self._process = _start(environment, folder, log, server, theirs)
        for trial in self.trials:
            trial.pid = self._process.pid
        with contextlib.suppress(OSError):  # it has ended, which `receive` finds
            self._connection.send([(job.number, job.arguments, job.environment, job.log) for job in jobs])

    def receive(self) -> None:
        """Updates the trials that have ended; if the process was killed, all that had not are lost."""
        try:
            while self._connection.poll():
                self._take(*self._connection.recv())
        except (EOFError, OSError):
            if self._process.poll() is None and isinstance(self._process, subprocess.Popen):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.1)
            for trial in self.trials:
                if trial.returncode is None:
                    trial.returncode, trial.lost = -signal.SIGKILL, "the process of its pack ended"

    def _take(self, kind: str, number: int | None, value: Any) -> None:
        if kind == "note":
            self.notes.append(value)
            return
        trial = next(trial for trial in self.trials if trial.number == number)
        trial.returncode = value if kind == "ended" else 0
        trial.lost = value if kind == "alone" else None

    def stop(self, number: int) -> None:
        """Asks a trial to stop after its next step."""
        with contextlib.suppress(OSError):
            self._connection.send(number)

    def kill(self) -> None:
        """Kills the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class PackedTrial:
    """A trial of a pack, with the part of `subprocess.Popen` that a trial needs.

    Attributes:
        number: Number of the trial.
        pid: Id of the process of the pack.
        returncode: Exit status as that of a process of its own; None while it runs.
        lost: Why it has to be started again as a process of its own; None if it has ended.
    """

    def __init__(self, number: int, pack: PackProcess) -> None:
        self.number = number
        self.pack = pack
        self.pid = 0  # until the process of the pack is started
        self.returncode: int | None = None
        self.lost: str | None = None
        self._overdue = False  # whether it was asked to stop, and had time for it

    def poll(self) -> int | None:
        """Returns the exit status, None while the trial runs."""
        if self.returncode is None:
            self.pack.receive()
        return self.returncode

    def terminate(self) -> None:
        """Asks the trial to stop after its next step."""
        self.pack.stop(self.number)

    def kill_group(self) -> None:
        """Kills the pack if none of its trials that have not ended is to go on.

        Else the trial ends at its next turn: the validation or the pictures of another one may take longer than the
        time that a process of its own has for its end.
        """
        if self.returncode is None:
            self._overdue = True
            if all(trial._overdue for trial in self.pack.trials if trial.returncode is None):
                self.pack.kill()


def _start(
    environment: Mapping[str, str], folder: Path, log: Path, server: WarmServer | None, connection: Any
) -> "subprocess.Popen[bytes] | WarmProcess":
    if server is not None:
        with contextlib.suppress(ConnectionError):  # the server has ended: a new process then
            return server.start([], folder, environment, log, connection.fileno())
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.packs", str(connection.fileno())],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(connection.fileno(),),
            start_new_session=True,
        )
