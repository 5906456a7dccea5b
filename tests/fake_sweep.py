"""Sweeps of trials that need no torch (`tests/fake_trial.py`), by the command line, as a user starts them."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from pipelines.search.search import Search, Trial
from pipelines.trials.watchdog import MARK
from tests.command_line import PROJECT

DEADLINE = 120.0


def write_sweep(folder: Path, **content: Any) -> Path:
    """A grid of fake trials; `content` adds to the file and overrides it."""
    command = ["python", str(PROJECT / "tests" / "fake_trial.py"), "${args_json_file}"]
    metric = {"name": "val/accuracy", "goal": "maximize"}
    file = folder / "fake.yaml"
    file.write_text(json.dumps({"method": "grid", "metric": metric, "command": command, **content}))
    return file


def start_sweep(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    """`python -m pipelines.sweep ARGUMENTS`, with `environment` on top of this process's."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.sweep", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "WANDB_MODE": "disabled", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_sweep(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Its exit status, and what it printed and complained."""
    process = start_sweep(folder, *arguments, environment=environment)
    out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, out, err


def the_folder(folder: Path) -> Path:
    """That of the only sweep."""
    (sweep,) = (folder / "logs" / "sweeps").iterdir()
    return sweep


def the_trials(folder: Path) -> list[Trial]:
    """Those of the only sweep, best first."""
    return Search(the_folder(folder)).trials()


def left_over(folder: Path) -> list[psutil.Process]:
    """Processes of a sweep's trials."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if MARK in process.environ() and process.cwd() == str(folder):
                found.append(process)
    return found


def tried(folder: Path) -> list[int]:
    """`x` of each trial, in the order in which they started."""
    return [int(line) for line in (folder / "started.txt").read_text().split()]


def wait_for_starts(folder: Path, count: int) -> None:
    """Until so many trials have started.

    Raises:
        TimeoutError: they do not.
    """
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if (folder / "started.txt").is_file() and len(tried(folder)) >= count:
            return
        time.sleep(0.02)
    raise TimeoutError(f"{count} trials have not started")
