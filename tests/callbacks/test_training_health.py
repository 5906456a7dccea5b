"""The health of a training, against the same training written out as a plain loop."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import callbacks.training_health
from callbacks import TrainingHealth
from modules import SoftmaxRegression

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

BATCH = 4


class Memory(Logger):
    """Keeps what is logged: (step, metrics)."""

    name, version = "memory", "0"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def health(self) -> dict[int | None, dict[str, float]]:
        health = [(step, {n: v for n, v in row.items() if n.startswith("health/")}) for step, row in self.rows]
        return {step: row for step, row in health if row}  # a validation logs at the same step as the training


class Scheduled(SoftmaxRegression):
    """SGD with momentum whose learning rate shrinks after every step."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def batches(count: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(5)
    images, labels = torch.randn(count * BATCH, 3, generator=generator), torch.arange(count * BATCH) % 5
    return DataLoader(TensorDataset(images, labels), BATCH)


def fit(model: Any, folder: Path, count: int, **settings: Any) -> dict[int | None, dict[str, float]]:
    memory = Memory()
    L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=memory,
        callbacks=[TrainingHealth()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    ).fit(model, batches(count))
    return memory.health()


def norm(tensors: list[Tensor]) -> float:
    return sum(float(value) ** 2 for tensor in tensors for value in tensor.flatten()) ** 0.5


def plain_loop(model: SoftmaxRegression, count: int, accumulate: int, clip: float | None) -> list[dict[str, float]]:
    """Gradient norm, update ratio and learning rate of every step."""
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    figures, lr = [], 0.5
    loader = list(batches(count))
    for start in range(0, count, accumulate):
        losses = [
            model.loss(model(images), labels) / accumulate for images, labels in loader[start : start + accumulate]
        ]
        gradients = list(torch.autograd.grad(sum(losses, torch.zeros(())), parameters))
        length = norm(gradients)
        if clip is not None and length > clip:
            gradients = [g * (clip / length) for g in gradients]
        velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
        before = norm([p.detach() for p in parameters])
        with torch.no_grad():
            for p, v in zip(parameters, velocity, strict=True):
                p.sub_(lr * v)
        ratio = norm([lr * v for v in velocity]) / before
        figures.append({"health/gradient_norm": length, "health/update_ratio": ratio, "health/lr": lr})
        lr *= 0.8
    return figures


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_figures_equal_a_plain_loop(tmp_path: Path, accumulate: int, every: int, clip: float | None) -> None:
    torch.manual_seed(0)
    model = Scheduled((3,), 5, reg=0.1, weight_scale=0.5)
    expected = plain_loop(deepcopy(model), 6 * accumulate, accumulate, clip)
    logged = fit(
        model,
        tmp_path,
        6 * accumulate,
        max_epochs=1,
        log_every_n_steps=every,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
    )
    assert list(logged) == list(range(every - 1, 6, every))
    for step, row in logged.items():
        assert step is not None
        rate = row.pop("health/images_per_s")
        assert rate > 0
        assert row == pytest.approx(expected[step], rel=1e-4)


def test_parameters_without_gradient_count_for_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, twin = (Scheduled((3,), 5, weight_scale=0.5) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    twin.frozen = torch.nn.Linear(50, 50).requires_grad_(False)
    figures = [fit(m, tmp_path, 2, max_epochs=1, log_every_n_steps=1) for m in (model, twin)]
    for row in [row for figure in figures for row in figure.values()]:
        del row["health/images_per_s"]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("every", [1, 2, 4])
def test_images_per_second_by_a_clock_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """Each look at the clock is half a second after the last: 4 images in 0.5 s are 8 a second, in any window."""
    looks = iter(range(10_000))
    monkeypatch.setattr(callbacks.training_health, "perf_counter", lambda: 0.5 * next(looks))
    logged = fit(Scheduled((3,), 5), tmp_path, 4, max_epochs=2, log_every_n_steps=every)
    assert [row["health/images_per_s"] for row in logged.values()] == [8.0] * (8 // every)


def test_pauses_for_validation_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """A training batch takes 1 s, a validation 100 s."""

        now = 0.0

    class Slow(Scheduled):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            Clock.now += 1
            return super().training_step(batch, batch_idx)

        def on_validation_epoch_end(self) -> None:
            Clock.now += 100
            super().on_validation_epoch_end()

        def val_dataloader(self) -> Any:
            return batches(1)

    monkeypatch.setattr(callbacks.training_health, "perf_counter", lambda: Clock.now)
    logged = fit(
        Slow((3,), 5), tmp_path, 4, max_epochs=3, log_every_n_steps=6, val_check_interval=2, num_sanity_val_steps=0
    )
    assert Clock.now == 12 + 600
    assert [row["health/images_per_s"] for row in logged.values()] == [4.0, 4.0]


def test_logging_turned_off(tmp_path: Path) -> None:
    assert fit(Scheduled((3,), 5), tmp_path, 2, max_epochs=1, log_every_n_steps=0) == {}
