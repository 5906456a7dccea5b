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

from modules.fast_convnet.fast_optimizers import ChainedOptimizer, decoupled_sgd, filter_muon
from modules.optimizers.muon import Muon, is_matrix, orthogonalize

TORCH = {"momentum": 0.9, "nesterov": True, "ns_steps": 3, "adjust_lr_fn": "original", "weight_decay": 0.0}
OURS = TIMM = TORCH | {"ns_coefficients": "original"}
A, B, C = 3.4445, -4.7750, 2.0315  # of the iteration, from the source in modules/optimizers/muon.py
BFLOAT16, FLOAT32 = {"avx512_bf16": True}, {"avx2": True}  # instructions of a CPU that computes in this type

Make = Callable[[list[nn.Parameter]], Optimizer]


def moved(make: Make) -> list[np.ndarray]:
    """Returns the sum of three steps of two matrices."""
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.zeros(shape)) for shape in ((8, 30), (30, 8))]
    optimizer = make(weights)
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return [weight.detach().double().numpy() for weight in weights]


def expected() -> list[np.ndarray]:
    """Returns the same in float64: the polynomial applied to the singular values of an exact decomposition."""
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
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: FLOAT32, raising=False)
    for found, wanted in zip(moved(partial(Muon, lr=0.1, **OURS)), expected(), strict=True):  # type: ignore[arg-type]
        np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize(
    "original",
    [partial(timm.optim.Muon, lr=0.1, **TIMM), partial(torch.optim.Muon, lr=0.1, **TORCH)],  # type: ignore[arg-type]
)
def test_in_bfloat16_it_equals_the_libraries_bit_for_bit(original: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: BFLOAT16, raising=False)
    ours = moved(partial(Muon, lr=0.1, **OURS))  # type: ignore[arg-type]
    for found, wanted, exact in zip(ours, moved(original), expected(), strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert np.abs(found - exact).max() > 1e-4  # bfloat16's rounding: the float32 test can tell the types apart


@pytest.mark.parametrize("instructions", [BFLOAT16, FLOAT32])
@pytest.mark.parametrize("coefficients", ["original", "quintic"])
@pytest.mark.parametrize("steps", [3, 5, 7])
@pytest.mark.parametrize("shape", [(16, 27), (192, 48), (10, 64)])
def test_iterations_equal_timms_bit_for_bit_in_both_types(
    shape: tuple[int, int],
    steps: int,
    coefficients: str,
    instructions: dict[str, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    torch.manual_seed(0)
    matrix, dtype = torch.randn(shape), torch.bfloat16 if instructions is BFLOAT16 else torch.float32
    theirs = timm.optim.muon.zeropower_via_newtonschulz(
        matrix, steps, timm.optim.muon._COEFFICIENTS[coefficients], dtype=dtype
    )
    ours = orthogonalize(matrix, steps, coefficients)
    assert ours.dtype is dtype
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("coefficients", ["original", "quintic"])
def test_a_network_moves_as_with_timm_bit_for_bit(
    coefficients: str, nesterov: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convolutions, a linear layer, biases and norms, with the weight decay and the factor of the `resnet` topic."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: BFLOAT16, raising=False)
    settings: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.05, "ns_steps": 5}
    makers: list[Callable[..., Optimizer]] = [Muon, timm.optim.Muon]
    networks = []
    for make in makers:
        torch.manual_seed(0)
        conv, norm, depthwise = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8)
        network = nn.Sequential(conv, norm, depthwise, nn.Flatten(), nn.Linear(32, 5))
        network.to(memory_format=torch.channels_last)
        optimizer = make(network.parameters(), nesterov=nesterov, ns_coefficients=coefficients, **settings)
        for _ in range(4):
            optimizer.zero_grad()
            network(torch.randn(16, 3, 6, 6)).square().mean().backward()
            optimizer.step()
        networks.append(network)
    for ours, theirs in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def continued(make_theirs: Make, make_ours: Make, shapes: list[tuple[int, ...]]) -> None:
    """Asserts that ours, with the state after their second step, takes their third and fourth step bit for bit."""
    generator = torch.Generator().manual_seed(0)
    theirs = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    ours = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    old, new = make_theirs(theirs), make_ours(ours)
    for step in range(4):
        if step == 2:
            new.load_state_dict(deepcopy(old.state_dict()))
            for weights, loaded in zip(theirs, ours, strict=True):
                loaded.data.copy_(weights.data)
        for weights, loaded in zip(theirs, ours, strict=True):
            weights.grad = loaded.grad = torch.randn(weights.shape, generator=generator)
        old.step()
        new.step()
    for weights, loaded in zip(theirs, ours, strict=True):
        assert torch.equal(weights, loaded)


def test_a_run_that_timms_muon_began_is_resumed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 0.1 trained `resnet` by timm's Muon."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: BFLOAT16, raising=False)
    settings = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "ns_coefficients": "original"}
    continued(partial(timm.optim.Muon, **settings), Muon, [(8, 30), (8,), (6, 4, 3, 3)])  # type: ignore[arg-type]


def test_a_run_that_torchs_muon_began_is_resumed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 0.1 trained the filters of `fast_convnet` by torch's Muon, also those that `is_matrix` is false for."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: BFLOAT16, raising=False)

    def chained(make: Callable[[list[nn.Parameter]], Optimizer]) -> Make:
        return lambda p: ChainedOptimizer(make(p[:-1]), decoupled_sgd([(p[-1:], 1.0)], 5, 0.01, 0.8, 256))

    theirs = chained(partial(torch.optim.Muon, lr=0.1, **TORCH | {"momentum": 0.6}))  # type: ignore[arg-type]
    ours = chained(partial(filter_muon, lr=0.2, momentum=0.5))  # replaced by the settings of the state
    continued(theirs, ours, [(8, 27), (48, 16), (2, 72), (4, 600), (5,)])


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
        ({"ns_steps": 0}, r"ns_steps is 0; it must be in \[1, 1000\]."),
        ({"ns_coefficients": "polar_express"}, "ns_coefficients is 'polar_express'; it must be original or quintic."),
        ({"adjust_lr_fn": "none"}, "adjust_lr_fn is 'none'; it must be original or match_rms_adamw."),
    ],
)
def test_values_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([nn.Parameter(torch.ones(4, 6))], **settings)  # type: ignore[arg-type]
