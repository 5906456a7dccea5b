"""Starts trials of `pipelines.train` as forks of one process that has imported torch, Lightning and the project.

A new Python process takes seconds to import them, longer than a small trial trains. The server imports them once,
touches no device and starts no thread. Each trial is a fork of it with the arguments, environment variables, working
folder, session, output file and exit status that a new process would have.
"""

import contextlib
import importlib
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path

from pipelines.trials.watchdog import MARK

# What the run of a small topic imports. W&B imports the last one when a run starts, which takes a second.
_PRELOADED = ("pipelines.run.cli", "matplotlib.figure", "sklearn.datasets")
_WANDB = "wandb.sdk.launch"


def train_command(command: Sequence[str]) -> list[str] | None:
    """Returns the arguments that a command passes to `pipelines.train`, if a fork can take its place.

    Returns:
        None for other programs and interpreters, options of the interpreter, and launchers such as torchrun.
    """
    words = list(command[1:] if command[:1] == ["/usr/bin/env"] else command)
    if words[:1] not in (["python"], [sys.executable]) or not hasattr(os, "fork"):
        return None
    if words[1:3] == ["-m", "pipelines.train"]:
        return words[3:]
    if len(words) > 1 and Path(words[1]).resolve() == Path(__file__).parents[1] / "train.py":
        return words[2:]
    return None


class WarmServer:
    """A process that imports what trials need, in the background, and then forks them.

    Args:
        folder: Working folder, from which modules of the user are imported.
        environment: All environment variables. They must hold what libraries read when they are imported, such as
            OMP_NUM_THREADS.

    Attributes:
        mark: Mark of the process and of those that it forks, for a `Watchdog`.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._connection, theirs = Pipe()
        self._processes: dict[int, WarmProcess] = {}
        self.mark = f"server-{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"
        self._server = subprocess.Popen(
            [sys.executable, "-m", "pipelines.trials.warm_server", str(theirs.fileno())],
            cwd=folder,
            env={**environment, MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()

    def start(
        self,
        arguments: list[str],
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        pack: int | None = None,
    ) -> "WarmProcess":
        """Runs `pipelines.train` with these arguments, or a pack; waits for the imports if they have not ended.

        Args:
            arguments: Arguments of `pipelines.train`.
            folder: Working folder.
            environment: All environment variables.
            log: File that the output is appended to.
            pack: File descriptor of the socket by which a pack gets its trials; None to run `pipelines.train`.

        Raises:
            ConnectionError: If the server has ended.
        """
        try:
            self._connection.send((arguments, folder, dict(environment), log, pack is not None))
            if pack is not None:
                send_handle(self._connection, pack, self._server.pid)
            while True:
                pid, status = self._connection.recv()
                if status is None:
                    self._processes[pid] = WarmProcess(pid, self)
                    return self._processes[pid]
                self._processes.pop(pid).returncode = status
        except (EOFError, OSError) as error:
            raise ConnectionError("The process that starts trials has ended.") from error

    def receive(self) -> None:
        """Updates the exit status of processes that have ended.

        Raises:
            ConnectionError: If the server has ended.
        """
        try:
            while self._connection.poll():
                pid, status = self._connection.recv()
                self._processes.pop(pid).returncode = status
        except (EOFError, OSError) as error:
            raise ConnectionError("The process that starts trials has ended.") from error

    def close(self) -> None:
        """Ends the server; processes that it has started go on."""
        self._connection.close()
        self._server.wait()


class WarmProcess:
    """A forked trial, with the part of `subprocess.Popen` that a trial needs.

    Attributes:
        pid: Id of the process and of its group.
        returncode: Exit status; a negative one is the signal that ended the process; None while it runs.
        lost: Why it was killed and has to start again, if the server ended: its exit status would be unknown.
    """

    def __init__(self, pid: int, server: WarmServer) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.lost: str | None = None
        self._server = server

    def poll(self) -> int | None:
        """Returns the exit status, None while the process runs."""
        if self.returncode is None:
            try:
                self._server.receive()
            except ConnectionError:
                self.lost = "the process that it was forked from was killed"
                self.kill_group()
                self.returncode = -signal.SIGKILL
        return self.returncode

    def terminate(self) -> None:
        """Sends SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def kill_group(self) -> None:
        """Kills the process and those of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@dataclass(frozen=True)
class _Request:
    """What a forked process is to run.

    Attributes:
        arguments: Arguments of `pipelines.train`.
        folder: Working folder.
        environment: All environment variables.
        log: File that the output is appended to.
        pack: File descriptor of the socket of a pack, which takes the place of the arguments; None for a single trial.
    """

    arguments: list[str]
    folder: Path
    environment: dict[str, str]
    log: Path
    pack: int | None


def _serve(connection: Connection) -> _Request | None:
    """Forks a process for each request, and reports how each ends.

    Returns:
        The request, in a forked process; None in the server, when its client has ended.
    """
    children: set[int] = set()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    ended = signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer)  # ends the wait below when a process ends
    while True:
        ready = wait([connection, reader])
        if reader in ready:
            os.read(reader, 65536)
            for pid in list(children):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    children.remove(pid)
                    connection.send((pid, os.waitstatus_to_exitcode(status)))
        if connection in ready:
            try:
                arguments, folder, environment, log, is_pack = connection.recv()
                pack = recv_handle(connection) if is_pack else None
                request = _Request(arguments, folder, environment, log, pack)
            except EOFError:
                return None
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, ended)
                for descriptor in (reader, writer, connection.fileno()):
                    os.close(descriptor)
                return request
            if request.pack is not None:
                os.close(request.pack)
            children.add(pid)
            connection.send((pid, None))


def _become(request: _Request) -> None:
    """Gives this forked process what a new one gets when it starts, and what libraries read when they are imported."""
    import numpy as np
    import torch

    if media := sys.modules.get("wandb.sdk.data_types._private"):
        media.MEDIA_TMP.__init__("wandb-media")  # the first process to end removes the folder that all would share
    os.setsid()
    output = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    random.seed()
    np.random.seed()
    if request.environment.get("OMP_NUM_THREADS", "").isdigit():
        torch.set_num_threads(int(request.environment["OMP_NUM_THREADS"]))
    program = importlib.import_module("pipelines.train")
    sys.modules["__main__"] = program  # Lightning starts the processes of the other devices by its name
    sys.argv = [str(program.__file__), *request.arguments]


def main(descriptor: int) -> None:
    """Serves the client at the other end of a socket, and runs `pipelines.train` in each forked process."""
    for name in _PRELOADED if os.environ.get("WANDB_MODE") == "disabled" else (*_PRELOADED, _WANDB):
        with contextlib.suppress(ImportError):  # a trial that needs it says so
            importlib.import_module(name)
    import torch

    from pipelines import train
    from pipelines.packs.__main__ import main as train_pack

    if threading.active_count() > 1 or torch.cuda.is_initialized():
        sys.exit(1)  # a fork would not be safe; trials start as new processes
    request = _serve(Connection(descriptor))
    if request is None:
        return
    _become(request)
    if request.pack is None:
        train.main(request.arguments)
    else:
        train_pack(request.pack)


if __name__ == "__main__":
    main(int(sys.argv[1]))
