"""The progress bar fits a terminal of 80 columns with the figures that matter, and ends its line after an error."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.console.progress_bar import ProgressBar, fitting

METRICS = {"train/loss": 1.98, "train/accuracy": 0.5, "val/loss": 1.74, "val/accuracy": 0.8125}


def test_the_monitored_metric_comes_first_and_what_does_not_fit_is_left_out() -> None:
    assert list(fitting(METRICS, "val/accuracy", 200)) == ["val/accuracy", "val/loss", "train/loss", "train/accuracy"]
    assert list(fitting(METRICS, "val/accuracy", len("val/accuracy=0.812, val/loss=1.740"))) == [
        "val/accuracy",
        "val/loss",
    ]
    assert list(fitting(METRICS, "val/loss", len("val/loss=1.740"))) == ["val/loss"]
    assert fitting(METRICS, "val/accuracy", 10) == {}
    assert list(fitting(METRICS, None, 200))[:2] == ["val/loss", "val/accuracy"]


@pytest.mark.parametrize(("columns", "shown"), [(80, 2), (120, 3), (200, 4)])
def test_the_line_of_an_epoch_fits(columns: int, shown: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    trainer: Any = SimpleNamespace(
        loggers=[],
        progress_bar_metrics={**METRICS},
        num_training_batches=40,
        current_epoch=1,
        checkpoint_callback=SimpleNamespace(monitor="val/accuracy"),
    )
    bar = ProgressBar()
    metrics: Any = bar.get_metrics(trainer, SimpleNamespace())  # type: ignore[arg-type]
    assert len(metrics) == shown and list(metrics)[:2] == ["val/accuracy", "val/loss"]
    figures = ", ".join(f"{name}={value:.3f}" for name, value in metrics.items())
    line = bar.BAR_FORMAT.format(
        desc="Epoch 1: ", l_bar="Epoch 1: 100%|", bar="█", n_fmt=40, total_fmt=40, elapsed="00:00", remaining="00:00",
        rate_noinv_fmt="1000.00it/s", postfix=f", {figures}",
    )  # fmt: skip
    assert len(line) <= columns


def test_an_error_ends_the_line_of_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    bar: Any = ProgressBar()
    bar.on_exception(None, None, RuntimeError())
    assert capsys.readouterr().out == ""  # nothing was drawn
    assert bar._should_update(1, 10)
    bar.on_exception(None, None, RuntimeError())
    assert capsys.readouterr().out == "\n"
