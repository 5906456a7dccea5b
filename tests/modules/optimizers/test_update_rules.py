"""torch's optimizers against the course's update rules, in float64, and momentum in both of its forms."""

import re
from collections.abc import Callable
from math import cos, pi
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, Optimizer, RMSprop

from modules.optimizers.update_rules import adagrad, adam, momentum, nesterov_momentum, rmsprop, sgd

RATE, STEPS = 0.03, 6
Rule = Callable[..., tuple[Tensor, ...]]
DOCS = Path(__file__).parents[3] / "docs"


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


def course_momentum(w: Tensor, g: Tensor, v: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    v = 0.9 * v - lr * g
    return w + v, v


def course_nesterov(w: Tensor, g: Tensor, v: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    before, v = v, 0.9 * v - lr * g
    return w - 0.9 * before + (1 + 0.9) * v, v


def distance_after(rates: list[float], rule: Rule, course_rule: Rule) -> float:
    """Largest difference between the weights of torch's and the course's form after steps at these rates."""
    torch.manual_seed(0)
    here = there = torch.randn(5, dtype=torch.float64)
    velocity = course = torch.zeros(5, dtype=torch.float64)
    for rate in rates:
        gradient = torch.randn(5, dtype=torch.float64)
        here, velocity = rule(here, gradient, velocity, rate)
        there, course = course_rule(there, gradient, course, rate)
    return float((here - there).abs().max())


@pytest.mark.parametrize(
    ("rule", "course_rule"),
    [(momentum, course_momentum), (nesterov_momentum, course_nesterov)],
    ids=["momentum", "nesterov"],
)
def test_the_courses_momentum_takes_the_same_steps_at_a_constant_rate_alone(rule: Rule, course_rule: Rule) -> None:
    assert distance_after([0.1] * 8, rule, course_rule) < 1e-12
    cosine = [0.05 * (1 + cos(pi * t / 8)) for t in range(8)]
    assert distance_after(cosine, rule, course_rule) > 0.01


def test_the_distance_that_the_docs_state() -> None:
    cosine = [0.05 * (1 + cos(pi * t / 8)) for t in range(8)]
    stated = re.search(r"end up to ([\d.]+) apart", (DOCS / "optimizers.md").read_text(encoding="utf-8"))
    assert stated and float(stated[1]) == round(distance_after(cosine, momentum, course_momentum), 2)
