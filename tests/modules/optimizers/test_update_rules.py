"""torch's optimizers against the course's update rules, in float64, and momentum in both of its forms."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, Optimizer, RMSprop

from modules.optimizers.update_rules import adagrad, adam, momentum, nesterov_momentum, rmsprop, sgd

RATE, STEPS = 0.03, 6
Rule = Callable[..., tuple[Tensor, ...]]


@pytest.mark.parametrize(
    ("make", "rule", "states"),
    [
        (lambda p: SGD(p, RATE), lambda t, w, g: (sgd(w, g, RATE),), 0),
        (lambda p: SGD(p, RATE, momentum=0.9), lambda t, w, g, v: momentum(w, g, v, RATE, 0.9), 1),
        (
            lambda p: SGD(p, RATE, momentum=0.8, nesterov=True),
            lambda t, w, g, v: nesterov_momentum(w, g, v, RATE, 0.8),
            1,
        ),
        (lambda p: Adagrad(p, RATE, eps=1e-7), lambda t, w, g, c: adagrad(w, g, c, RATE, 1e-7), 1),
        (lambda p: RMSprop(p, RATE, alpha=0.95, eps=1e-7), lambda t, w, g, c: rmsprop(w, g, c, RATE, 0.95, 1e-7), 1),
        (
            lambda p: Adam(p, RATE, betas=(0.8, 0.99), eps=1e-8),
            lambda t, w, g, m, v: adam(w, g, m, v, t, RATE, (0.8, 0.99), 1e-8),
            2,
        ),
    ],
    ids=["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"],
)
def test_torch_equals_the_rule(make: Callable[[list[Tensor]], Optimizer], rule: Rule, states: int) -> None:
    torch.manual_seed(0)
    weights = torch.randn(4, 3, dtype=torch.float64)
    parameter = torch.nn.Parameter(weights.clone())
    optimizer = make([parameter])
    state: tuple[Tensor, ...] = (torch.zeros_like(weights),) * states
    for t in range(1, STEPS + 1):
        gradient = torch.randn(4, 3, dtype=torch.float64)
        parameter.grad = gradient
        optimizer.step()
        weights, *state = rule(t, weights, gradient, *state)  # type: ignore[assignment]
        torch.testing.assert_close(parameter.detach(), weights, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "rates", [[RATE] * STEPS, [RATE / t for t in range(1, STEPS + 1)]], ids=["constant", "falling"]
)
def test_the_courses_momentum_takes_the_same_steps_at_a_constant_rate_alone(rates: list[float]) -> None:
    torch.manual_seed(0)
    here = there = torch.randn(5, dtype=torch.float64)
    velocity = course = torch.zeros(5, dtype=torch.float64)
    for rate in rates:
        gradient = torch.randn(5, dtype=torch.float64)
        here, velocity = momentum(here, gradient, velocity, rate)
        course = 0.9 * course - rate * gradient
        there = there + course
    assert torch.allclose(here, there, rtol=1e-12) == (len(set(rates)) == 1)
