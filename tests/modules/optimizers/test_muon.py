"""Muon against an exact decomposition in float64, and bit for bit against timm's and torch's own."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import timm.optim
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from modules.optimizers.muon import Muon, is_matrix, orthogonalize

OURS = {"momentum": 0.9, "nesterov": True, "ns_steps": 3, "adjust_lr_fn": "original"}
TIMM = OURS | {"ns_coefficients": "original"}
TORCH = OURS | {"weight_decay": 0.0}
A, B, C = 3.4445, -4.7750, 2.0315  # of the iteration, from the source in modules/optimizers/muon.py

Make = Callable[[list[nn.Parameter]], Optimizer]


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


def test_in_float32_it_equals_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    for found, wanted in zip(moved(partial(Muon, lr=0.1, **OURS)), expected(), strict=True):  # type: ignore[arg-type]
        np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize(
    "original",
    [partial(timm.optim.Muon, lr=0.1, **TIMM), partial(torch.optim.Muon, lr=0.1, **TORCH)],  # type: ignore[arg-type]
)
def test_in_bfloat16_it_equals_the_libraries_bit_for_bit(original: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    ours = moved(partial(Muon, lr=0.1, **OURS))  # type: ignore[arg-type]
    for found, wanted, exact in zip(ours, moved(original), expected(), strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert np.abs(found - exact).max() > 1e-4  # bfloat16's digits: the other test can tell


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_whole_network_moves_as_with_timm(nesterov: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions, a linear layer, biases and norms, with weight decay and the factor of the `resnet` topic."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    settings: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.05, "ns_steps": 5}
    makers: list[Callable[..., Optimizer]] = [Muon, partial(timm.optim.Muon, ns_coefficients="original")]
    networks = []
    for make in makers:
        torch.manual_seed(0)
        conv, norm, depthwise = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8)
        network = nn.Sequential(conv, norm, depthwise, nn.Flatten(), nn.Linear(32, 5))
        optimizer = make(network.parameters(), **settings)
        for _ in range(4):
            optimizer.zero_grad()
            network(torch.randn(16, 3, 6, 6)).square().mean().backward()
            optimizer.step()
        networks.append(network)
    for ours, theirs in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_state_that_timm_saved_goes_on() -> None:
    torch.manual_seed(0)
    first = [nn.Parameter(torch.randn(8, 30)), nn.Parameter(torch.randn(8))]
    theirs = timm.optim.Muon(first, lr=0.05, momentum=0.9, nesterov=True, ns_coefficients="original")
    second = [nn.Parameter(p.detach().clone()) for p in first]
    gradients = [torch.randn(p.shape) for p in first]
    for parameters in (first, second):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
    theirs.step()
    ours = Muon(second)
    ours.load_state_dict(deepcopy(theirs.state_dict()))
    for before, after in zip(first, second, strict=True):
        after.data.copy_(before.detach())
    theirs.step()
    ours.step()
    for expected_value, value in zip(first, second, strict=True):
        torch.testing.assert_close(value, expected_value, rtol=1e-6, atol=1e-7)


def test_orthogonalized_singular_values_are_about_1() -> None:
    torch.manual_seed(0)
    for shape in ((20, 50), (50, 20)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape), 5).float())
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        ((64, 128), True),
        ((96, 3, 4, 4), True),
        ((4, 2048), False),  # aspect ratio
        ((3, 64), False),
        ((64,), False),
        ((1, 196, 768), False),  # a position embedding
        ((32, 1, 3, 3), False),  # depthwise
    ],
)
def test_matrices_are_what_timm_takes_for_one(shape: tuple[int, ...], matrix: bool) -> None:
    assert is_matrix(torch.zeros(shape)) is matrix
    assert timm.optim.muon._is_suitable_for_muon(torch.zeros(shape)) is matrix


def test_the_loss_is_computed_once_and_in_its_own_precision() -> None:
    weight, dtypes = nn.Parameter(torch.ones(4, 6)), []

    def closure() -> Tensor:
        dtypes.append(torch.ones(1).bfloat16().dtype)
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert Muon([weight]).step(closure) == 24
    assert dtypes == [torch.bfloat16]
    assert not torch.equal(weight, torch.ones(4, 6))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "lr is 0.0; it must be > 0."),
        ({"momentum": 1.0}, r"momentum is 1.0; it must be in \[0, 1\)."),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be ≥ 0."),
        ({"ns_steps": 0}, "ns_steps is 0; it must be at least 1."),
        ({"adjust_lr_fn": "none"}, "adjust_lr_fn is 'none'; it must be original or match_rms_adamw."),
    ],
)
def test_values_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([nn.Parameter(torch.ones(4, 6))], **settings)  # type: ignore[arg-type]
