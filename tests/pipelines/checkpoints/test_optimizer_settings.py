"""Optimizers and schedules of a resumed run follow the settings given on resume, at every step."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader

from modules import WarmupCosine
from modules.optimizers.muon import Muon
from pipelines.checkpoints.optimizer_settings import OptimizerSettings
from pipelines.run.schedule_length import ScheduleLength, configure_optimizers
from tests.helpers import trainer_of

STEPS = 3  # of an epoch
Make = Callable[[Any], optim.Optimizer]
MakeSchedule = Callable[[optim.Optimizer], LRScheduler] | None


class Net(L.LightningModule):
    """A linear model that keeps the learning rate of each step."""

    def __init__(self, make: Make, schedule: MakeSchedule = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)
        self.make, self.schedule = make, schedule
        self.rates: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        loss = self.linear(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = self.make(self.parameters())
        schedule = self.schedule(optimizer) if self.schedule else None
        if isinstance(schedule, ReduceLROnPlateau):
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "train/loss"}}
        return configure_optimizers(self, optimizer, schedule)


def batches() -> DataLoader[Any]:
    rows: Any = torch.randn(STEPS, 8, generator=torch.Generator().manual_seed(1))
    return DataLoader(rows)


def fit(folder: Path, net: Net, epochs: int, changed: Collection[str] | None = None, resume: bool = False) -> Net:
    """Trains to a number of epochs; the checkpoint is `folder`/last.ckpt, written after 2 epochs."""
    file = folder / "last.ckpt"
    trainer = trainer_of(folder, OptimizerSettings(changed), ScheduleLength(), max_epochs=epochs)
    trainer.fit(net, batches(), ckpt_path=file if resume else None)
    if not resume:
        trainer.save_checkpoint(file)
    return net


def sgd(**settings: Any) -> Make:
    return lambda parameters: optim.SGD(parameters, **{"lr": 0.1, "momentum": 0.9, **settings})


def cosine(length: int) -> MakeSchedule:
    return lambda optimizer: CosineAnnealingLR(optimizer, length)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((sgd(), None), (sgd(lr=0.01), None)),
        ((sgd(), cosine(4)), (sgd(lr=0.01), cosine(4))),
        ((sgd(), cosine(2)), (sgd(), cosine(4))),
        ((sgd(), None), (sgd(), cosine(4))),
        ((sgd(), cosine(4)), (sgd(), None)),
        ((sgd(), cosine(4)), (sgd(), lambda optimizer: StepLR(optimizer, 1, 0.5))),
        ((sgd(), cosine(4)), (sgd(lr=0.2), WarmupCosine)),
        ((sgd(), WarmupCosine), (sgd(lr=0.2), WarmupCosine)),
        ((sgd(), cosine(4)), (sgd(), lambda optimizer: OneCycleLR(optimizer, 0.3, 5))),
        ((sgd(), cosine(4)), (lambda parameters: optim.AdamW(parameters, 0.01), cosine(4))),
    ],
)  # fmt: skip
def test_the_learning_rate_is_that_of_the_settings_given(
    before: tuple[Make, MakeSchedule], after: tuple[Make, MakeSchedule], tmp_path: Path
) -> None:
    fit(tmp_path, Net(*before), 2)
    resumed = fit(tmp_path, Net(*after), 4, resume=True)
    from_the_start = fit(tmp_path, Net(*after), 4)
    assert resumed.rates == pytest.approx(from_the_start.rates[2 * STEPS :], abs=1e-12)
    unknown = fit(tmp_path, Net(*after), 4, changed=None)
    assert unknown.rates == from_the_start.rates


@pytest.mark.parametrize(
    ("name", "value"), [("weight_decay", 0.3), ("momentum", 0.5), ("nesterov", True), ("dampening", 0.1)]
)
def test_other_settings_are_used_with_the_momentum_of_the_checkpoint(name: str, value: Any, tmp_path: Path) -> None:
    fit(tmp_path, Net(sgd(), cosine(4)), 2)
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer_states"][0]
    net = Net(sgd(**{name: value}), cosine(4))
    momenta: list[Tensor] = []

    class Look(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            (group,) = trainer.optimizers[0].param_groups
            assert group[name] == value
            momenta.extend(state["momentum_buffer"].clone() for state in trainer.optimizers[0].state.values())

    trainer = trainer_of(tmp_path, OptimizerSettings({f"optimizer.{name}"}), Look(), max_epochs=3)
    trainer.fit(net, batches(), ckpt_path=tmp_path / "last.ckpt")
    assert len(momenta) == 2
    for got, state in zip(momenta, stored["state"].values(), strict=True):
        assert torch.equal(got, state["momentum_buffer"])


@pytest.mark.parametrize("first", ["SGD", "Adam", "Adagrad", "RMSprop", "Muon"])
@pytest.mark.parametrize("second", ["SGD", "Adam", "Adamax", "NAdam", "RMSprop", "Muon", "amsgrad", "centered"])
def test_any_optimizer_can_follow_any_other(
    first: str, second: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    makers: dict[str, Make] = {
        name: lambda parameters, name=name: getattr(optim, name)(parameters, lr=0.01)  # type: ignore[misc]
        for name in ("SGD", "Adam", "Adagrad", "RMSprop", "Adamax", "NAdam")
    }
    makers["SGD"] = sgd()
    makers["Muon"] = lambda parameters: Muon(parameters, lr=0.01)
    makers["amsgrad"] = lambda parameters: optim.Adam(parameters, lr=0.01, amsgrad=True)
    makers["centered"] = lambda parameters: optim.RMSprop(parameters, lr=0.01, centered=True)
    fit(tmp_path, Net(makers[first]), 1)
    changed = {"optimizer"} if first != second else {"optimizer.lr"}
    net = fit(tmp_path, Net(makers[second]), 2, changed, resume=True)
    assert len(net.rates) == STEPS and all(weights.isfinite().all() for weights in net.parameters())
    assert ("starts from its initial state" in capsys.readouterr().out) == (first != second)


def test_a_rate_that_follows_a_metric_stays_unless_another_is_given(tmp_path: Path) -> None:
    def plateau(optimizer: optim.Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=10.0)  # each epoch counts as bad

    fit(tmp_path, Net(sgd(), plateau), 3)
    reached = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"][0]["lr"]
    assert reached < 0.1
    kept = fit(tmp_path, Net(sgd(momentum=0.5), plateau), 4, {"optimizer.momentum"}, resume=True)
    assert kept.rates[0] == reached
    given = fit(tmp_path, Net(sgd(lr=0.2), plateau), 4, {"optimizer.lr"}, resume=True)
    assert given.rates[0] == 0.2


class ScaledNet(Net):
    """Scales its rates before training, as SimCLR does by the batch size."""

    def on_fit_start(self) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] *= 4
            group["initial_lr"] *= 4
        (config,) = self.trainer.lr_scheduler_configs
        config.scheduler.base_lrs = [rate * 4 for rate in config.scheduler.base_lrs]


@pytest.mark.parametrize("schedule", [cosine(4), WarmupCosine])
def test_rates_that_a_module_scales_before_training_are_scaled_after_a_resume_too(
    schedule: MakeSchedule, tmp_path: Path
) -> None:
    fit(tmp_path, ScaledNet(sgd(), schedule), 2)
    resumed = fit(tmp_path, ScaledNet(sgd(lr=0.01), schedule), 4, {"optimizer.lr"}, resume=True)
    from_the_start = fit(tmp_path, ScaledNet(sgd(lr=0.01), schedule), 4)
    assert resumed.rates == pytest.approx(from_the_start.rates[2 * STEPS :], abs=1e-12)


def test_what_is_unchanged_is_restored_as_it_was(tmp_path: Path) -> None:
    """Also a rate that something else than the schedule has changed."""
    net = fit(tmp_path, Net(sgd(), cosine(4)), 2)
    file = tmp_path / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] = 0.0321
    torch.save(checkpoint, file)
    again = fit(tmp_path, Net(sgd(), cosine(4)), 3, {"data.num_workers", "trainer.max_epochs"}, resume=True)
    assert net.rates[0] == 0.1 and again.rates[0] == 0.0321
