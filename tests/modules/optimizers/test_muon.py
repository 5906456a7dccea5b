"""Muon where bfloat16 is only imitated, and where it is not."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import timm.optim
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from modules.optimizers.muon import Muon
from modules.optimizers.update_rules import FilterMuon

TIMM = {"momentum": 0.9, "nesterov": True, "ns_steps": 3, "ns_coefficients": "original", "adjust_lr_fn": "original"}
TORCH = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.0, "ns_steps": 3, "adjust_lr_fn": "original"}
A, B, C = 3.4445, -4.7750, 2.0315  # of the iteration, from the source in modules/optimizers/muon.py

Make = Callable[[list[nn.Parameter]], Optimizer]
OURS: list[Make] = [partial(Muon, lr=0.1, **TIMM), partial(FilterMuon, lr=0.1, **TORCH)]  # type: ignore[arg-type]
THEIRS: list[Make] = [partial(timm.optim.Muon, lr=0.1, **TIMM), partial(torch.optim.Muon, lr=0.1, **TORCH)]  # type: ignore


def moved(make: Make) -> list[np.ndarray]:
    """By how much three steps move two matrices."""
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.zeros(shape)) for shape in ((8, 30), (30, 8))]
    optimizer = make(weights)
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return [weight.detach().double().numpy() for weight in weights]


def expected() -> list[np.ndarray]:
    """The same in float64: the polynomial applied to the singular values of an exact decomposition."""
    generator = torch.Generator().manual_seed(0)
    shapes = (8, 30), (30, 8)
    weights, speeds = ([np.zeros(shape) for shape in shapes] for _ in range(2))
    for _ in range(3):
        for number, shape in enumerate(shapes):
            gradient = torch.randn(shape, generator=generator).double().numpy()
            speeds[number] = 0.9 * speeds[number] + 0.1 * gradient
            left, values, right = np.linalg.svd(0.1 * gradient + 0.9 * speeds[number], full_matrices=False)
            values /= np.sqrt((values**2).sum())
            for _ in range(3):
                values = A * values + B * values**3 + C * values**5
            weights[number] -= 0.1 * max(1, shape[0] / shape[1]) ** 0.5 * (left * values) @ right
    return weights


@pytest.mark.parametrize("make", OURS)
def test_imitated_it_is_float32_and_equals_the_formula(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    for found, wanted in zip(moved(make), expected(), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize(("make", "original"), list(zip(OURS, THEIRS, strict=True)))
def test_otherwise_it_is_the_library_s(make: Make, original: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    for found, wanted, exact in zip(moved(make), moved(original), expected(), strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert np.abs(found - exact).max() > 1e-4  # bfloat16's digits: the other test can tell


@pytest.mark.parametrize("make", OURS)
def test_the_loss_is_computed_once_and_in_its_own_precision(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    weight, seen = nn.Parameter(torch.ones(4, 6)), []

    def closure() -> Tensor:
        seen.append(torch.ones(1).bfloat16().dtype)
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert make([weight]).step(closure) == 24  # type: ignore[arg-type]
    assert seen == [torch.bfloat16]
    assert not torch.equal(weight, torch.ones(4, 6))
