"""The length of schedules that span the run is set by the command line."""

from datetime import timedelta
from math import cos, pi
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torch.utils.data import DataLoader

from modules import WarmupCosine
from pipelines.run.schedule_length import ScheduleLength, configure_optimizers
from tests.command_line import run_pipeline
from tests.helpers import figures, only_run, trainer_of
from tests.modules.optimizers.test_schedules import rates


class Net(L.LightningModule):
    """A linear model that keeps the learning rate of each step."""

    def __init__(self, schedule: Any) -> None:
        super().__init__()
        self.linear, self.schedule = torch.nn.Linear(2, 1), schedule
        self.rates: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.linear(batch).square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=1.0)
        return configure_optimizers(self, optimizer, self.schedule(optimizer))


def fit(folder: Path, schedule: Any, *callbacks: L.Callback, **settings: Any) -> Net:
    """Trains with batches of which an epoch has 4."""
    net = Net(schedule)
    rows: Any = torch.ones(4, 2)
    trainer_of(folder, *callbacks, ScheduleLength(), **settings).fit(net, DataLoader(rows))
    return net


class Clock(Timer):
    """A timer by which a step takes a second."""

    steps = 0

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.steps += 1
        super().on_train_batch_end(*args, **kwargs)

    def time_elapsed(self, stage: str = "train") -> float:
        return float(self.steps)


def test_a_schedule_follows_the_time_of_the_run(tmp_path: Path) -> None:
    net = fit(tmp_path, lambda o: WarmupCosine(o, 0.0), Clock(timedelta(seconds=10)), max_epochs=-1)
    assert net.rates == pytest.approx([0.5 * (1 + cos(pi * step / 10)) for step in range(10)])


def test_the_shorter_of_time_and_epochs_counts(tmp_path: Path) -> None:
    net = fit(tmp_path, lambda o: WarmupCosine(o, 0.0), Clock(timedelta(seconds=100)), max_epochs=2)
    assert net.rates == pytest.approx([0.5 * (1 + cos(pi * step / 8)) for step in range(8)])


@pytest.mark.parametrize(
    ("length", "settings", "sentence"),
    [
        (2, {"max_epochs": 3}, "the run has 3 epochs, so the learning rate rises again after epoch 2; set"),
        (5, {"max_epochs": 3}, "the run has 3 epochs, so the learning rate does not come down to its end; set"),
        (5, {"max_epochs": -1, "max_steps": 9}, "set --lr_scheduler.T_max 3, or use --lr_scheduler WarmupCosine"),
        (3, {"max_epochs": 3}, None),
    ],
)
def test_a_cosine_of_another_length_than_the_run_is_said(
    length: int, settings: dict[str, int], sentence: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, lambda o: CosineAnnealingLR(o, length), **settings)
    said = capsys.readouterr().out
    assert said == "" if sentence is None else sentence in said and said.count("\n") == 1


def test_a_cycle_that_ends_before_the_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is 2, but the run has 3 epochs; set") as error:
        fit(tmp_path, lambda o: OneCycleLR(o, 1.0, total_steps=2), max_epochs=3)
    assert type(error.value).__name__ == "UserError"


@pytest.mark.parametrize("topic", ["softmax", "svm"])
def test_the_rate_of_a_topic_comes_down_to_zero_whatever_its_length(topic: str, tmp_path: Path) -> None:
    """Also in a run that is trained longer: it never rises again."""
    run = ["fit", "--config", topic, "--data", "Digits", "--data.batch_size", "128", "--trainer.max_epochs", "2"]
    run += ["--trainer.callbacks", "[TrainingHealth]", "--trainer.log_every_n_steps", "2"]
    assert run_pipeline("train", run, tmp_path).code == 0
    folder = only_run(tmp_path, topic)
    first = figures(folder, "health/lr")
    assert run_pipeline("train", ["fit", "--ckpt_path", str(folder), "--trainer.max_epochs", "4"], tmp_path).code == 0
    both = figures(folder, "health/lr")
    for part in (first, both[len(first) :]):
        assert part == sorted(part, reverse=True) and part[-1] < 0.1 * first[0]


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
    assert finished.err.strip().endswith("set --trainer.max_epochs, --trainer.max_steps or --trainer.max_time.")
