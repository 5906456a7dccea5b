"""The length of schedules that span the run is set by the command line."""

from pathlib import Path

import pytest

from tests.command_line import run_pipeline
from tests.modules.optimizers.test_schedules import rates


def test_the_length_of_the_run_is_set(tmp_path: Path) -> None:
    run = ["fit", "--config", "softmax", "--data", "Digits", "--data.batch_size", "64", "--trainer.max_epochs", "3"]
    run += ["--lr_scheduler", "WarmupCosine", "--lr_scheduler.warmup", "0.5", "--optimizer.lr", "0.1"]
    run += ["--trainer.log_every_n_steps", "10", "--trainer.callbacks", "[TrainingHealth]"]
    finished = run_pipeline("train", run, tmp_path)
    assert finished.code == 0, finished.err
    (metrics,) = tmp_path.glob("logs/softmax/*/metrics.csv")
    names, *rows = [line.split(",") for line in metrics.read_text().splitlines()]
    step, rate = names.index("step"), names.index("health/lr")
    found = {int(row[step]): float(row[rate]) for row in rows if row[rate]}
    expected = {t: r for t, r in enumerate(rates(0.5, 60, 0.1)) if t in found}  # 20 steps an epoch
    assert len(found) == 6
    assert found == pytest.approx(expected)


def test_a_run_without_an_end_is_refused(tmp_path: Path) -> None:
    run = [
        "fit",
        "--config",
        "softmax",
        "--data",
        "Digits",
        "--trainer.max_epochs",
        "-1",
        "--lr_scheduler",
        "WarmupCosine",
    ]
    finished = run_pipeline("train", run, tmp_path)
    assert finished.code == 2
    assert finished.err.strip().endswith("set --trainer.max_epochs or --trainer.max_steps.")
