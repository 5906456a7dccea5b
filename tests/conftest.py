"""One thread for every test: its small tensors gain nothing from more, and on a busy machine lose much."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported, here and in child processes

# A shell that starts the tests in the background ignores Ctrl-C on their behalf, and nohup hang-ups, and every
# process would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def forked_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that checks a sweep's parameters is forked where torch and Lightning are imported already."""
    from tests.command_line import run_module

    def run(command: list[str], input: str, **others: Any) -> "subprocess.CompletedProcess[str]":
        done = run_module(command[2], command[3:], Path.cwd(), input)
        return subprocess.CompletedProcess(command, done.code, done.out, done.err)

    monkeypatch.setattr("pipelines.search.parameter_check.subprocess.run", run)
