"""What one command leaves in a run's folder, another that runs beside it or fails there neither hides nor replaces."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from pipelines.comparison.runs import read_run
from pipelines.run.status import read_status
from tests.command_line import run_pipeline, start_pipeline
from tests.helpers import only_run, rows

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--data.batch_size", "32",
    "--trainer.callbacks", "null", "--trainer.log_every_n_steps", "20",
]  # fmt: skip
HERE = "tests.pipelines.run.test_two_writers"


class FailBeforeAStep(Callback):
    """Fails where an optimizer does that does not understand its restored state."""

    def on_before_optimizer_step(self, *arguments: Any) -> None:
        raise RuntimeError("no step")


class KillBeforeAStep(Callback):
    """Is killed there."""

    def on_before_optimizer_step(self, *arguments: Any) -> None:
        signal.raise_signal(signal.SIGKILL)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    done = run_pipeline("train", [*FIT, "--trainer.max_epochs", "2"], folder)
    assert done.code == 0, done.err
    return only_run(folder)


@pytest.mark.parametrize("callback", ["FailBeforeAStep", "KillBeforeAStep"])
def test_a_resume_that_makes_no_step_leaves_a_finished_run_as_it_was(finished: Path, callback: str) -> None:
    before, status = contents(finished), read_status(finished)
    settings = ["--trainer.max_epochs", "4", "--data.batch_size", "64", "--trainer.callbacks"]
    callbacks = f"[{HERE}.{callback}, {{class_path: LearningRateMonitor}}]"
    failed = run_pipeline(
        "train", ["fit", "--ckpt_path", str(finished), *settings, callbacks], finished.parent.parent.parent
    )
    assert failed.code != 0
    after = contents(finished)
    assert {name for name in after if after[name] != before.get(name)} <= {"status.json"}
    assert before.keys() == after.keys()
    assert read_status(finished) == status and status.state == "finished"


def test_a_resume_that_has_nothing_left_to_train_leaves_the_run_as_it_was(finished: Path) -> None:
    before, status = contents(finished), read_status(finished)
    done = run_pipeline("train", ["fit", "--ckpt_path", str(finished), "--data.batch_size", "32"], finished.parents[2])
    assert done.code == 0, done.err
    after = contents(finished)
    for name in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt"):
        assert after[name] == before[name]
    assert read_status(finished) == status


def test_a_resume_that_makes_a_step_is_on_record(finished: Path) -> None:
    longer = ["fit", "--ckpt_path", str(finished), "--trainer.max_epochs", "3"]
    assert run_pipeline("train", longer, finished.parents[2]).code == 0
    assert "max_epochs: 3" in (finished / "config.yaml").read_text()
    assert [row["epoch"] for row in rows(finished) if row["val/loss"]] == ["0", "1", "2"]
    assert read_status(finished).command.endswith("--trainer.max_epochs 3")


@pytest.mark.slow
def test_a_test_beside_the_training_hides_none_of_its_figures(tmp_path: Path) -> None:
    training = start_pipeline("train", [*FIT, "--trainer.max_epochs", "100000"], tmp_path, WANDB_RUN_ID="live")
    run = tmp_path / "logs" / "softmax" / "live"
    deadline = time.monotonic() + 60
    while not (run / "checkpoints" / "last.ckpt").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    for _ in range(2):
        tested = run_pipeline("train", ["test", "--ckpt_path", str(run)], tmp_path)
        assert tested.code == 0, tested.err
    tests = [row for row in rows(run) if row["test/accuracy"]]
    assert len(tests) == 2 and all(row["test/images"] == "360.0" for row in tests)
    last = max(int(row["step"]) for row in tests)
    while not any(int(row["step"]) > last + 100 for row in rows(run)) and time.monotonic() < deadline + 60:
        time.sleep(0.1)
    training.send_signal(signal.SIGTERM)
    training.finish(60)
    logged = rows(run)
    assert all(None not in row and None not in row.values() for row in logged)  # each row has every column
    losses = read_run(run).curves["train/loss"]
    assert [point.step for point in losses.points] == list(range(19, losses.last.step + 1, 20))
    assert losses.last.step > last + 100
    epochs = losses.last.epoch
    assert epochs is not None
    resume = ["fit", "--ckpt_path", str(run), "--trainer.max_epochs", str(int(epochs) + 3)]
    assert run_pipeline("train", resume, tmp_path).code == 0
    curves = read_run(run).curves
    assert [point.step for point in curves["train/loss"].points][: len(losses.points)] == [
        point.step for point in losses.points
    ]
    assert len(curves["test/accuracy"].points) == 2


def test_what_killed_attempts_left_half_written_is_removed_by_the_next(finished: Path) -> None:
    pictures = ["pictures/templates/.00000042.png.0.tmp", "pictures/confusion/val/.00000042.png.0.tmp"]
    for name in (".metrics.csv.0.tmp", "checkpoints/.best.ckpt.0.tmp", "checkpoints/.last.ckpt.31337.tmp", *pictures):
        (finished / name).parent.mkdir(parents=True, exist_ok=True)
        (finished / name).write_bytes(b"half")
    resumed = run_pipeline("train", ["fit", "--ckpt_path", str(finished)], finished.parents[2])
    assert resumed.code == 0, resumed.err
    assert not [path for path in finished.rglob("*") if path.name.endswith(".tmp")]
