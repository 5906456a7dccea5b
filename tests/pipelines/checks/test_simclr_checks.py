"""The checks of SimCLR: a correct model passes all of them, and each kind of bug fails the check made for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import SimCLR
from pipelines.checks.sanity_checkable import Result
from pipelines.checks.simclr_checks import run_simclr_checks

VIEWS, LABELS = torch.rand(16, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(16).long()


class Data:
    """One batch of views; the second view of an image is the first with a little noise."""

    def prepare_data(self) -> None: ...

    def setup(self, stage: str) -> None: ...

    def train_dataloader(self) -> list[Any]:
        noise = 0.05 * torch.rand(VIEWS[:, 0].shape, generator=torch.Generator().manual_seed(1))
        return [(torch.stack([VIEWS[:, 0], VIEWS[:, 0] + noise], 1), LABELS)]

    def on_after_batch_transfer(self, batch: Any, index: int) -> Any:
        return batch


def new_simclr() -> SimCLR:
    torch.manual_seed(0)
    options = {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}
    return SimCLR((3, 16, 16), 4, "resnet26", options=options, hidden=16, projection=8, temperature=0.2, knn=1)


def results_of(model: SimCLR) -> dict[str, Result]:
    torch.manual_seed(0)
    return {result.name: result for result in run_simclr_checks(model, Data())}


def test_a_correct_model_passes() -> None:
    results = results_of(new_simclr())
    assert all(result.passed for result in results.values()), results
    assert "expected 3.4340" in results["initial loss"].figures  # ln 31


class SeesItself(nn.Module):
    """NT-Xent whose views are candidates for themselves."""

    temperature = 0.2

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        views = F.normalize(torch.cat([first, second]))
        return F.cross_entropy(views @ views.T / 0.2, torch.arange(len(views)).roll(len(first)))


class Unnormalized(SeesItself):
    """The gradient does not reach the second views."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        views = F.normalize(torch.cat([first, second]))
        logits = (views @ views.detach().T / 0.2).fill_diagonal_(-torch.inf)
        return F.cross_entropy(logits, torch.arange(len(views)).roll(len(first)))


def collapsed(model: SimCLR) -> None:
    model.projector = nn.Sequential(model.projector, _Mean())


class _Mean(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.mean(0, keepdim=True).expand_as(values) + 0 * values


def set_loss(loss: Callable[[], nn.Module]) -> Callable[[SimCLR], None]:
    return lambda model: setattr(model, "nt_xent", loss())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "failed"),
    [(set_loss(SeesItself), "initial loss"), (set_loss(Unnormalized), "gradients"), (collapsed, "overfitting")],
)
def test_each_bug_fails_the_check_made_for_it(spoil: Callable[[SimCLR], None], failed: str) -> None:
    model = new_simclr()
    spoil(model)
    results = results_of(model)
    assert results[failed].passed is False, results
