"""Central differences of a loss of one parameter: on kinks, near them, and with a wrong gradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.checks.gradient_checks import TrainingLoss, relative_error
from tests.pipelines.checks.wrong_backward import WrongBackward


class OneParameter(nn.Module):
    """A training loss that is a given function of one parameter."""

    def __init__(self, start: float, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([start], dtype=torch.float64))
        self.function = function

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"loss": self.function(self.x).sum()}


@pytest.mark.parametrize(
    ("start", "function", "error"),
    [
        (0.0, torch.relu, None),  # the slope is 0 on one side and 1 on the other
        (5e-6, torch.relu, 0.0),  # the kink is less than one step away, but not less than the smallest
        (5e-8, torch.relu, None),
        (1e-3, torch.relu, 0.0),
        (0.7, torch.sin, 0.0),
        (0.7, lambda x: 1000 * x.exp(), 0.0),
        (0.7, lambda x: WrongBackward.apply(x.sin()), 1 - 1 / 1.1),
        (0.7, lambda x: x.detach().sin() + 0 * x, 1.0),
    ],
)
def test_a_kink_is_distinguished_from_a_wrong_gradient(
    start: float, function: Callable[[Tensor], Tensor], error: float | None
) -> None:
    model: Any = OneParameter(start, function)
    loss_of = TrainingLoss(model, (torch.zeros(1), torch.zeros(1)))
    here = loss_of.backward().item()
    found = relative_error(loss_of, model.x, 0, here)
    assert found == (None if error is None else pytest.approx(error, abs=1e-6))
    assert model.x.item() == start
