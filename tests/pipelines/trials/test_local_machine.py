"""Trials on this machine: each gets its share of cores and GPUs, and a failed one leaves no process."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from pipelines.trials.local_machine import LocalMachine, named_gpus, trial_environments
from pipelines.trials.trial_process import Job
from pipelines.trials.watchdog import marked
from tests.command_line import PROJECT


def test_a_failed_trial_leaves_no_process_while_the_launcher_goes_on(tmp_path: Path) -> None:
    (tmp_path / "values.json").write_text(json.dumps({"x": 1, "how": "hang"}))
    command = [sys.executable, str(PROJECT / "tests" / "fake_trial.py"), "values.json"]
    job = Job(7, command, tmp_path, {"WANDB_RUN_ID": "run-7"}, tmp_path / "7.log", "val/accuracy", 3600.0)
    elapsed = 0.0
    with (tmp_path / "lock").open("w") as lock:
        machine = LocalMachine([{}], "test-mark", lock.fileno(), clock=lambda: time.monotonic() + elapsed)
        machine.start(job)
        outcome = None
        most = 0
        while outcome is None:
            ((_, outcome),) = machine.poll()
            most = max(most, len(marked("test-mark/7")))
            if most == 2:
                elapsed = 3601.0
        assert most == 2  # the trial, and a child with a session of its own
        assert outcome.reason == "ran longer than 3600 s"
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


_MIG = "MIG-GPU-b1c2/1/0,MIG-GPU-b1c2/2/0"


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("-1", []),
        ("", []),
        (" ", []),
        ("NoDevFiles", []),
        ("none", []),
        ("void", []),
        ("0,-1,1", ["0"]),
        ("-1,0", []),
        ("0, 1 ,\t2", ["0", "1", "2"]),
        ("0,1,", ["0", "1"]),
        (",0", []),
        ("0,,1", ["0"]),
        ("0,a,1", ["0"]),
        ("+1", ["1"]),
        ("03", ["3"]),
        ("0 1", ["0"]),
        ("0,0", []),
        ("0,00", []),
        ("1,0,1", []),
        ("10,2", ["10", "2"]),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]),
        ("GPU-89, GPU-9a", ["GPU-89", "GPU-9a"]),
        ("GPU-89,1", ["GPU-89"]),
        ("1,GPU-89", ["1"]),
        ("GPU-89,GPU-89", []),
        (_MIG, _MIG.split(",")),
        ("MIG-a,GPU-b", ["MIG-a"]),
    ],
)
def test_the_gpus_of_cuda_visible_devices_are_those_that_torch_sees(value: str, gpus: list[str]) -> None:
    assert named_gpus(value) == gpus


def test_the_same_values_are_read_by_torch_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("-1", "", "NoDevFiles", "0,-1,1", "-1,0", "0, 1 ,2", "0,1,", "0,a,1", "0,0", "1,0,1", "GPU-8,GPU-9"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert named_gpus(value) == [str(gpu) for gpu in torch.cuda._parse_visible_devices()], value


@pytest.mark.parametrize("value", ["-1", "NoDevFiles", " "])
def test_hidden_gpus_are_no_gpus(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    environments = trial_environments(None, 2)
    assert len(environments) == len(os.sched_getaffinity(0))
    assert not any("CUDA_VISIBLE_DEVICES" in environment for environment in environments)


@pytest.mark.parametrize("given", ["64", "0", "", "4,2", "many"])
def test_threads_of_the_shell_never_exceed_the_share_of_a_trial(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert trial_environments(2, 1) == [{"OMP_NUM_THREADS": "4"}] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert trial_environments(2, 1) == [{"OMP_NUM_THREADS": "3"}] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "12")
    assert trial_environments(1, 1) == [{"OMP_NUM_THREADS": "12"}]
