"""Runs command lines in processes of their own that need not import torch and Lightning anew each time."""

import contextlib
import importlib
import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

_context = multiprocessing.get_context("forkserver")
_LIMIT_SECONDS = 120
_context.set_forkserver_preload(["pipelines.run.cli"])  # imported once; each process is forked from it


@dataclass(frozen=True)
class Finished:
    """What became of a command line.

    Attributes:
        code: exit status; negative is the signal that ended it.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str


def _child(pipeline: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.pop("WANDB_SERVICE", None)  # a process of its own has a W&B service of its own
    os.environ.update(environment)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / f".{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    sys.path.insert(0, str(PROJECT))
    sys.argv = [f"pipelines.{pipeline}", *arguments]
    try:
        importlib.import_module(f"pipelines.{pipeline}").main(arguments)
    finally:  # an error's traceback goes to standard error once this has ended
        sys.stdout.flush()


def run_pipeline(pipeline: str, arguments: list[str], folder: Path, **environment: str) -> Finished:
    """Runs `python -m pipelines.<pipeline> <arguments>` in `folder`, untracked by W&B unless `environment` says so."""
    environment = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", **environment}
    process = _context.Process(target=_child, args=(pipeline, arguments, folder, environment))
    process.start()
    process.join(_LIMIT_SECONDS)
    if process.is_alive():
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.join()
        raise TimeoutError(
            f"{arguments} took more than {_LIMIT_SECONDS} s:\n{(folder / '.stderr').read_text()[-2000:]}"
        )
    assert process.exitcode is not None
    return Finished(process.exitcode, (folder / ".stdout").read_text(), (folder / ".stderr").read_text())
