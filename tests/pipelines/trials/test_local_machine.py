"""Trials on this machine: their share of it, and what is left of them."""

import json
import os
import sys
from pathlib import Path

import pytest

from pipelines.trials.local_machine import LocalMachine, trial_environments
from pipelines.trials.trial_process import Job
from pipelines.trials.watchdog import marked
from tests.command_line import PROJECT


def test_a_failed_trial_leaves_no_process_while_the_launcher_goes_on(tmp_path: Path) -> None:
    (tmp_path / "values.json").write_text(json.dumps({"x": 1, "how": "hang"}))
    command = [sys.executable, str(PROJECT / "tests" / "fake_trial.py"), "values.json"]
    job = Job(7, command, tmp_path, {"WANDB_RUN_ID": "run-7"}, tmp_path / "7.log", "val/accuracy", 2.0)
    with (tmp_path / "lock").open("w") as lock:
        machine = LocalMachine([{}], "test-mark", lock.fileno())
        machine.start(job)
        outcome = None
        most = 0
        while outcome is None:
            ((_, outcome),) = machine.poll()
            most = max(most, len(marked("test-mark/7")))
        assert most == 2  # the trial, and a child with a session of its own
        assert outcome.reason == "ran longer than 2 s"
        assert marked("test-mark") == []
        machine.close()


def test_gpus_are_dealt_out_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    devices = [environment["CUDA_VISIBLE_DEVICES"] for environment in trial_environments(None, 2)]
    assert devices == ["4,5", "6,7"]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in trial_environments(3, 2)] == ["4,5", "6,7", "4,5"]
    with pytest.raises(ValueError, match="has 4 GPUs; give fewer"):
        trial_environments(None, 5)


def test_without_gpus_the_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert trial_environments(None, 1) == [{"OMP_NUM_THREADS": "1"}] * cores
    assert trial_environments(1, 1) == [{"OMP_NUM_THREADS": str(cores)}]
