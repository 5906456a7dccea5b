"""torch's optimizers against the update rules that `modules/networks/fully_connected_net.py` states, in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer, RMSprop

RATE, STEPS = 0.03, 6


def sgd(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int) -> Tensor:
    return w - RATE * g


def momentum(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int) -> Tensor:
    """In the course's own form, v ← μ v − η g and w ← w + v."""
    state["v"] = 0.9 * state.get("v", torch.zeros_like(w)) - RATE * g
    return w + state["v"]


def rmsprop(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int) -> Tensor:
    state["c"] = 0.95 * state.get("c", torch.zeros_like(w)) + 0.05 * g**2
    return w - RATE * g / (state["c"].sqrt() + 1e-7)


def adam(w: Tensor, g: Tensor, state: dict[str, Tensor], t: int) -> Tensor:
    state["m"] = 0.8 * state.get("m", torch.zeros_like(w)) + 0.2 * g
    state["v"] = 0.99 * state.get("v", torch.zeros_like(w)) + 0.01 * g**2
    return w - RATE * (state["m"] / (1 - 0.8**t)) / ((state["v"] / (1 - 0.99**t)).sqrt() + 1e-8)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda p: SGD(p, RATE), sgd),
        (lambda p: SGD(p, RATE, momentum=0.9), momentum),
        (lambda p: RMSprop(p, RATE, alpha=0.95, eps=1e-7), rmsprop),
        (lambda p: Adam(p, RATE, betas=(0.8, 0.99), eps=1e-8), adam),
    ],
    ids=["sgd", "momentum", "rmsprop", "adam"],
)
def test_updates_equal_their_formula(
    make: Callable[[list[Tensor]], Optimizer], rule: Callable[[Tensor, Tensor, dict[str, Tensor], int], Tensor]
) -> None:
    torch.manual_seed(0)
    weights = torch.randn(4, 3, dtype=torch.float64)
    parameter = torch.nn.Parameter(weights.clone())
    optimizer, state = make([parameter]), dict[str, Tensor]()
    for t in range(1, STEPS + 1):
        gradient = torch.randn(4, 3, dtype=torch.float64)
        parameter.grad = gradient
        optimizer.step()
        weights = rule(weights, gradient, state, t)
        torch.testing.assert_close(parameter.detach(), weights, rtol=1e-12, atol=1e-12)
