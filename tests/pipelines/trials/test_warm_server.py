"""Trials that are forks of one process, against the same trials as new processes."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.run.status import read_status
from pipelines.trials.local_machine import LocalMachine
from pipelines.trials.trial_process import Job, Outcome
from pipelines.trials.warm_server import WarmServer, train_command
from pipelines.trials.watchdog import marked
from tests.command_line import PROJECT, run_pipeline
from tests.helpers import rows

DIGITS = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs=2", "--trainer.callbacks=[]"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (["/usr/bin/env", "python", "-m", "pipelines.train", "fit"], ["fit"]),
        (["python", "-m", "pipelines.train", "fit", "--config", "svm"], ["fit", "--config", "svm"]),
        ([sys.executable, str(PROJECT / "pipelines" / "train.py"), "fit"], ["fit"]),
        (["python", "-u", "-m", "pipelines.train", "fit"], None),
        (["python", "train.py"], None),
        (["/usr/bin/env", "A=1", "python", "-m", "pipelines.train"], None),
        (["torchrun", "-m", "pipelines.train", "fit"], None),
        (["python3.99", "-m", "pipelines.train"], None),
        (["python"], None),
    ],
)
def test_commands_that_a_fork_can_run(command: list[str], arguments: list[str] | None) -> None:
    assert train_command(command) == arguments


def job(folder: Path, number: int, *arguments: str, **environment: str) -> Job:
    command = [sys.executable, "-m", "pipelines.train", *DIGITS, *arguments]
    given = {"WANDB_MODE": "disabled", "WANDB_RUN_ID": f"run-{number}", **environment}
    return Job(number, command, folder, given, folder / f"{number}.log", "val/accuracy", None)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[LocalMachine]:
    with (tmp_path / "lock").open("w") as lock:
        machine = LocalMachine([{"OMP_NUM_THREADS": "1"}] * 2, f"warm-{os.getpid()}-{tmp_path.name}", lock.fileno())
        yield machine
        machine.close()
    assert marked(machine._mark) == []


def outcomes(machine: LocalMachine, count: int) -> dict[int, Outcome]:
    found: dict[int, Outcome] = {}
    while len(found) < count:
        found |= {process.job.number: outcome for process, outcome in machine.poll() if outcome is not None}
    return found


@pytest.mark.slow
def test_forks_give_the_figures_and_exit_statuses_of_new_processes(machine: LocalMachine, tmp_path: Path) -> None:
    for number, arguments in enumerate([["--model.reg=0.01"], ["--model.regg=0.01"]]):
        machine.start(job(tmp_path, number, *arguments))
    found = outcomes(machine, 2)
    assert found[0].state == "finished"
    assert found[1].reason == "exit status 2: SoftmaxRegression has no setting 'regg'; did you mean reg?"
    warm = tmp_path / "logs" / "softmax" / "run-0"
    assert read_status(warm).state == "finished"
    alone = run_pipeline("train", [*DIGITS, "--model.reg=0.01"], tmp_path, WANDB_RUN_ID="alone")
    assert alone.code == 0
    assert rows(warm) == rows(tmp_path / "logs" / "softmax" / "alone")
    # Another trial of the same server has its own environment, and random numbers of its own where none are seeded.
    for number in (2, 3):
        machine.start(job(tmp_path, number, "--seed_everything=false", "--data.split_seed=1"))
    outcomes(machine, 2)
    assert (tmp_path / "logs" / "softmax" / "run-2" / "metrics.csv").is_file()


@pytest.mark.slow
def test_a_trial_whose_server_is_killed_is_killed_and_can_start_again(machine: LocalMachine, tmp_path: Path) -> None:
    machine.start(job(tmp_path, 0, "--trainer.max_epochs=100000"))
    ((process, _),) = machine._running
    server: Any = machine._server
    os.kill(server._server.pid, signal.SIGKILL)
    (found,) = outcomes(machine, 1).values()
    assert found.state == "lost"
    deadline = time.monotonic() + 10
    while psutil.pid_exists(process._process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not psutil.pid_exists(process._process.pid)
    machine.start(job(tmp_path, 1))  # as a new process
    assert outcomes(machine, 1)[1].state == "finished"


def test_starting_a_trial_after_the_server_has_ended_raises(tmp_path: Path) -> None:
    server = WarmServer(tmp_path, dict(os.environ))
    os.kill(server._server.pid, signal.SIGKILL)
    with pytest.raises(ConnectionError, match="has ended"):
        server.start(["fit"], tmp_path, dict(os.environ), tmp_path / "log")
    server.close()
