"""Runs command lines in processes of their own that need not import torch and Lightning anew each time."""

import contextlib
import importlib
import io
import itertools
import multiprocessing
import os
import runpy
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from tempfile import TemporaryDirectory

PROJECT = Path(__file__).resolve().parent.parent

_LIMIT_SECONDS = 120
# Imported once by the server, from which each process is forked.
_PRELOADED = ["pipelines.run.cli", "wandb.cli.cli", "sklearn.datasets"]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)
_outputs, _numbers = TemporaryDirectory(prefix="command-line-"), itertools.count()


@dataclass(frozen=True)
class Finished:
    """What became of a command line.

    Attributes:
        code: Exit status; negative is the signal that ended it.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str


class Started:
    """A command line that runs, for tests that send it signals or wait for what it writes.

    Args:
        module: The module that `python -m` would run.
        arguments: Its arguments.
        folder: The working folder.
        environment: The whole environment.
        given: Standard input.
    """

    def __init__(
        self, module: str, arguments: list[str], folder: Path, environment: dict[str, str], given: str = ""
    ) -> None:
        self._arguments = arguments
        number = next(_numbers)
        self._out, self._err = (Path(_outputs.name) / f"{number}.{stream}" for stream in ("out", "err"))
        _ensure_server()
        self._process = _context.Process(
            target=_child, args=(module, arguments, folder, given, (self._out, self._err), environment)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    @property
    def failed(self) -> bool:
        return bool(self._process.exitcode)

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def kill(self) -> None:
        """Ends it if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.join()

    def finish(self, seconds: float = _LIMIT_SECONDS) -> Finished:
        """Waits for its end.

        Raises:
            TimeoutError: It takes longer than `seconds`; it is killed then.
        """
        self._process.join(seconds)
        if self._process.is_alive():
            self.kill()
            raise TimeoutError(f"{self._arguments} took more than {seconds} s:\n{self._err.read_text()[-2000:]}")
        assert self._process.exitcode is not None
        return Finished(self._process.exitcode, self._out.read_text(), self._err.read_text())


def run_pipeline(pipeline: str, arguments: list[str], folder: Path, **environment: str) -> Finished:
    """Runs `python -m pipelines.<pipeline> <arguments>` in `folder`, untracked by W&B unless `environment` says so."""
    return start_pipeline(pipeline, arguments, folder, **environment).finish()


def start_pipeline(pipeline: str, arguments: list[str], folder: Path, **environment: str) -> Started:
    """Starts what `run_pipeline` runs."""
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", **environment}
    return Started(f"pipelines.{pipeline}", arguments, folder, environment)


def run_module(module: str, arguments: list[str], folder: Path, given: str = "", **environment: str) -> Finished:
    """Runs `python -m <module> <arguments>` in `folder` with `given` as its standard input."""
    return Started(module, arguments, folder, {**os.environ, **environment}, given).finish()


def train_on_two(arguments: list[str], folder: Path, **environment: str) -> Finished:
    """Runs `pipelines.train` in two processes, in the environment that torchrun gives them; the first one's output.

    For tests of what two processes compute. How they are started is tested by commands that start them.
    """
    torchrun = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip
    processes = [
        start_pipeline("train", arguments, folder, **torchrun, RANK=rank, LOCAL_RANK=rank, **environment)
        for rank in ("0", "1")
    ]
    deadline = time.monotonic() + _LIMIT_SECONDS
    try:
        # One that failed leaves the other waiting for it.
        while any(process.running for process in processes) and not any(process.failed for process in processes):
            assert time.monotonic() < deadline, f"{arguments} took more than {_LIMIT_SECONDS} s on two processes"
            time.sleep(0.01)
    finally:
        for process in processes:
            process.kill()
    first, second = (process.finish() for process in processes)
    assert first.code == second.code == 0, first.err + second.err
    assert second.out == ""  # the first process alone reports
    return first


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _ensure_server() -> None:
    """Starts the server where it finds the project, whatever folder and environment a test is in."""
    with _in_project():
        resource_tracker.ensure_running()
        forkserver.ensure_running()


@contextlib.contextmanager
def _in_project() -> Iterator[None]:
    folder, path = Path.cwd(), os.environ.get("PYTHONPATH")
    os.chdir(PROJECT)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), path]))
    try:
        yield
    finally:
        os.chdir(folder)
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path


def _child(
    module: str, arguments: list[str], folder: Path, given: str, outputs: tuple[Path, Path], environment: dict[str, str]
) -> None:
    for stream, file in enumerate(outputs, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdin = io.StringIO(given)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    missing = [name for name in _PRELOADED if name not in sys.modules]
    assert not missing, f"The server has not imported {missing}; every process would, for seconds."
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name in ("WANDB_SERVICE", "LIGHTNING_231N_RUN_ID"):  # what a run in the tests' own process left
        os.environ.pop(name, None)
    sys.path.insert(0, str(PROJECT))
    sys.argv = [module, *arguments]
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    rank_zero_only.rank = _get_rank() or 0  # type: ignore[attr-defined]  # read from the environment at import, which was the server's
    try:
        if module.startswith("pipelines."):
            imported = importlib.import_module(module)
        if module.startswith("pipelines.") and hasattr(imported, "main"):
            imported.main(arguments)
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:  # an error's traceback goes to standard error once this has ended
        sys.stdout.flush()
