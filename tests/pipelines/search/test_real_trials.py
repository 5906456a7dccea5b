"""A sweep of real runs: a trial whose launcher is killed goes on from its checkpoint as if nothing had happened."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.run.status import read_status
from pipelines.search.launcher import run_search
from pipelines.search.search import Search
from pipelines.search.sweep_file import read_sweep
from tests.command_line import PROJECT, run_pipeline
from tests.helpers import rows
from tests.killed_sweep import kill_launcher, wait_for_checkpoints

pytestmark = pytest.mark.slow

_TOPIC = ["fit", "--config", "softmax", "--data", "Digits"]
_VALUES = {"data.batch_size": 16, "data.flip": False, "trainer.max_epochs": 40, "trainer.callbacks": []}


def validated(run: Path) -> list[dict[str, str]]:
    return [row for row in rows(run) if row["val/accuracy"]]


def test_a_run_that_its_sweep_stops_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "long.yaml"
    values = {**_VALUES, "trainer.max_epochs": 100_000}
    content = {
        "method": "grid",
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "command": ["python", "-m", "pipelines.train", *_TOPIC, "--config", "${args_json_file}"],
        "parameters": {name: {"value": value} for name, value in values.items()},
    }
    file.write_text(json.dumps(content))
    for name, value in {"PYTHONPATH": str(PROJECT), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)

    def clock() -> float:
        """An hour passes when the run has been validated."""
        return time.monotonic() + 3601.0 * bool(list(tmp_path.glob("logs/softmax/*/checkpoints/last.ckpt")))

    run_search(Search.create(read_sweep(file), tmp_path / "logs", time_limit=3600.0), clock=clock)
    (run,) = (tmp_path / "logs" / "softmax").iterdir()
    status = read_status(run)
    assert (status.state, status.reason) == ("stopped", "ran longer than 3600 s")


def test_an_interrupted_trial_goes_on_from_its_checkpoint_to_the_same_figures(tmp_path: Path) -> None:
    file = tmp_path / "digits.yaml"
    content = {
        "method": "grid",
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "command": ["python", "-m", "pipelines.train", *_TOPIC, "--config", "${args_json_file}"],
        "parameters": {name: {"value": value} for name, value in _VALUES.items()} | {"model.reg": {"values": [0.01]}},
    }
    file.write_text(json.dumps(content))
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipelines.sweep"]
    launcher = subprocess.Popen([*command, "run", str(file)], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    wait_for_checkpoints(tmp_path, 1)
    sweep = kill_launcher(launcher, tmp_path)
    run = Search(sweep).run_folder(Search(sweep).trials()[0])
    assert run is not None and read_status(run).state == "killed"
    before = len(validated(run))
    assert 0 < before < 40
    subprocess.run([*command, "resume", str(sweep)], cwd=tmp_path, env=environment, check=True, capture_output=True)
    (trial,) = Search(sweep).trials()
    assert trial.state == "finished" and len(trial.metric) == 40
    assert read_status(run).state == "finished" and "--ckpt_path" in read_status(run).command
    flags = [f"--{name}={value}" for name, value in _VALUES.items()] + ["--model.reg=0.01"]
    assert run_pipeline("train", [*_TOPIC, *flags], tmp_path).code == 0
    (whole,) = (folder for folder in (tmp_path / "logs" / "softmax").iterdir() if folder != run)
    # Figures of training since the last log are not in a checkpoint, those of validation are exact.
    assert [(row["step"], row["val/accuracy"], row["val/loss"]) for row in validated(run)] == [
        (row["step"], row["val/accuracy"], row["val/loss"]) for row in validated(whole)
    ]
