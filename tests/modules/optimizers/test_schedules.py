"""The schedule over the whole run: its formula, and what a longer run makes of it."""

from math import cos, pi

import numpy as np
import pytest
import torch

from modules import Triangular, WarmupCosine


def rates(warmup: float, steps: int, base: float = 0.2) -> list[float]:
    """The learning rate of each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    schedule = WarmupCosine(optimizer, warmup, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 10), (0.25, 8), (0.2, 50), (0.5, 7)])
def test_rates_equal_the_formula(warmup: float, steps: int) -> None:
    warm = warmup * steps
    expected = [
        0.2 * ((t + 1) / (warm + 1) if t < warm else 0.5 * (1 + cos(pi * (t - warm) / (steps - warm))))
        for t in range(steps)
    ]
    assert rates(warmup, steps) == pytest.approx(expected)


def test_shape() -> None:
    found = rates(0.2, 100)
    top = found.index(max(found))
    assert 0 < found[0] < 0.02 and top == 20 and max(found) == pytest.approx(0.2) and found[-1] < 2e-3
    assert found[:21] == sorted(found[:21]) and found[20:] == sorted(found[20:], reverse=True)


def test_a_step_beyond_the_end_stays_at_zero_and_a_longer_run_has_its_own_schedule() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = WarmupCosine(optimizer, 0.0, 4)
    for _ in range(6):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
    longer = WarmupCosine(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 0.0, 12)
    longer.load_state_dict(schedule.state_dict())
    longer.begin(12)
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(0.5)  # step 6 of 12


@pytest.mark.parametrize("warmup", [-0.1, 1.0, float("nan")])
def test_refusals(warmup: float) -> None:
    with pytest.raises(ValueError, match=rf"warmup is {warmup}; it must be in \[0, 1\)"):
        rates(warmup, 10)


def triangular(steps: int, start: float, peak: float, end: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = Triangular(optimizer, start, peak, end)
    schedule.begin(steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize(("start", "peak", "end"), [(0.2, 0.23, 0.07), (1.0, 0.0, 0.0), (0.0, 0.5, 1.0)])
def test_triangle_equals_interpolation(start: float, peak: float, end: float) -> None:
    corners = ([0, 30 * peak, 30], [start, 1, end]) if peak else ([0, 30], [1, end])
    expected = 0.2 * np.interp(np.arange(31), *corners)
    assert triangular(30, start, peak, end) == pytest.approx(expected)


@pytest.mark.parametrize("settings", [(1.1, 0.2, 0.0), (0.2, 0.2, -0.1), (0.2, 1.0, 0.0), (float("nan"), 0.2, 0.0)])
def test_triangles_that_are_none(settings: tuple[float, float, float]) -> None:
    with pytest.raises(
        ValueError, match=r"(start|end) is .*; it must be in \[0, 1\]|peak is .*; it must be in \[0, 1\)"
    ):
        triangular(10, *settings)


def test_a_schedule_longer_than_the_run_is_refused_and_a_shorter_one_is_kept() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match=r"total_steps of the schedule is 50, but the run has 40 steps .*set at most"):
        WarmupCosine(optimizer, 0.0, 50).begin(40)
    schedule = Triangular(optimizer, 1.0, 0.0, 0.0, 4)
    schedule.begin(40)
    for _ in range(6):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
