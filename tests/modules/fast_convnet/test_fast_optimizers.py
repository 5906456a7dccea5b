"""The optimizers of the fast recipe against their formulas in float64, and two optimizers that step as one."""

import numpy as np
import pytest
import torch
from torch import nn

from modules.fast_convnet.fast_optimizers import ChainedOptimizer, decoupled_sgd, filter_muon, normalize
from modules.optimizers.schedules import Triangular


def gradients(steps: int, *shapes: tuple[int, ...]) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes] for _ in range(steps)]


def test_sgd_equals_the_formula() -> None:
    lr, decay, momentum, batch = 5.0, 0.02, 0.7, 512
    weights = [nn.Parameter(torch.linspace(-1, 1, n, dtype=torch.float64)) for n in (4, 3)]
    optimizer = decoupled_sgd([([weights[0]], 1.0), ([weights[1]], 8.0)], lr, decay, momentum, batch)
    expected = [weight.detach().numpy().copy() for weight in weights]
    speed = [np.zeros_like(weight) for weight in expected]
    for step in gradients(6, (4,), (3,)):
        for number, (weight, gradient) in enumerate(zip(weights, step, strict=True)):
            weight.grad = gradient
            mine = lr * (1.0, 8.0)[number]
            rate, shrink = mine * (batch / 1024) * (1 - momentum), decay / mine
            d = gradient.numpy() + shrink * expected[number]
            speed[number] = momentum * speed[number] + d
            expected[number] = expected[number] - rate * (d + momentum * speed[number])
        optimizer.step()
    for weight, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight.detach(), wanted, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
@pytest.mark.parametrize("batch", [64, 1024])
def test_1024_examples_move_the_weights_by_lr_whatever_batch_and_momentum_are(momentum: float, batch: int) -> None:
    weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = decoupled_sgd([([weight], 1.0)], 3.0, 0.0, momentum, batch)
    for step in range(1024 // batch + 400):  # after 1,024 examples the gradient is 0 and the motion runs out
        weight.grad = torch.full_like(weight, float(step < 1024 // batch))
        optimizer.step()
    assert weight.item() == pytest.approx(-3.0)


@pytest.mark.parametrize("lr_scale", [1.0, 64.0])
def test_all_weights_shrink_by_weight_decay(lr_scale: float) -> None:
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = decoupled_sgd([([weight], lr_scale)], 3.0, 1e-3, 0.8, 1024)
    for _ in range(200):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert weight.log().item() / 200 == pytest.approx(-1e-3, rel=0.03)


def test_muon_moves_along_the_nearest_orthogonal_matrix() -> None:
    """torch's Newton-Schulz steps are done in bfloat16 and give singular values of about 1: direction and size."""
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape)) for shape in ((8, 30), (30, 8))]
    momentum, rate = 0.6, 0.2
    optimizer = filter_muon(matrices, rate, momentum)
    speed = [torch.zeros(matrix.shape, dtype=torch.float64) for matrix in matrices]
    for step in gradients(4, (8, 30), (30, 8)):
        before = [matrix.detach().clone() for matrix in matrices]
        for matrix, gradient in zip(matrices, step, strict=True):
            matrix.grad = gradient.float()
        optimizer.step()
        for number, (matrix, gradient) in enumerate(zip(matrices, step, strict=True)):
            speed[number] = momentum * speed[number] + (1 - momentum) * gradient
            u, _, vh = torch.linalg.svd((1 - momentum) * gradient + momentum * speed[number], full_matrices=False)
            moved = (before[number] - matrix.detach()).double() / rate
            assert torch.cosine_similarity(moved.flatten(), (u @ vh).flatten(), 0) > 0.95
            length = len(matrix) ** 0.5  # √M, whichever side is the longer one
            assert moved.norm().item() == pytest.approx(length, rel=0.25)


def test_normalized_filters_have_length_root_m_and_their_direction() -> None:
    matrix = nn.Parameter(torch.randn(9, 20))
    before = matrix.detach().clone()
    normalize([matrix])
    assert matrix.norm().item() == pytest.approx(3.0)
    assert torch.cosine_similarity(before.flatten(), matrix.detach().flatten(), 0).item() == pytest.approx(1.0)


def pair() -> tuple[list[nn.Parameter], ChainedOptimizer]:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(3))]
    return weights, ChainedOptimizer(
        filter_muon(weights[:1], 0.2, 0.6), decoupled_sgd([(weights[1:], 1.0)], 5, 0.01, 0.8, 256)
    )


def step(optimizer: ChainedOptimizer, weights: list[nn.Parameter], number: int) -> float:
    def closure() -> float:
        optimizer.zero_grad()
        loss = sum((weight - number).square().sum() for weight in weights)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        return loss.item()

    found = optimizer.step(closure)
    assert isinstance(found, float)
    return found


def test_two_optimizers_step_as_one_and_resume_exactly() -> None:
    weights, both = pair()
    schedule = Triangular(both, 1.0, 0.0, 0.0, 6)
    expected, muon, sgd = [w.detach().clone().requires_grad_() for w in weights], None, None
    muon = filter_muon([expected[0]], 0.2, 0.6)  # type: ignore[list-item]
    sgd = decoupled_sgd([([expected[1]], 1.0)], 5, 0.01, 0.8, 256)  # type: ignore[list-item]
    stored = None
    for number in range(6):
        if number == 3:
            stored = [w.detach().clone() for w in weights], both.state_dict(), schedule.state_dict()
            stored = torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, stored)
        step(both, weights, number)
        schedule.step()
        for optimizer in (muon, sgd):
            base = 0.2 if optimizer is muon else 5 * 256 / 1024 * (1 - 0.8)
            optimizer.param_groups[0]["lr"] = base * (1 - number / 6)
        for weight in expected:
            weight.grad = 2 * (weight.detach() - number)
        muon.step()
        sgd.step()
        for found, wanted in zip(weights, expected, strict=True):
            torch.testing.assert_close(found, wanted)
    assert stored is not None
    again, resumed = pair()
    schedule = Triangular(resumed, 1.0, 0.0, 0.0, 6)
    resumed.load_state_dict(stored[1])
    schedule.load_state_dict(stored[2])
    with torch.no_grad():
        for weight, value in zip(again, stored[0], strict=True):
            weight.copy_(value)
    for number in range(3, 6):
        step(resumed, again, number)
        schedule.step()
    assert all(map(torch.equal, again, weights))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lr": 0.0}, "lr is 0.0; it must be > 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be ≥ 0"),
        ({"momentum": 1.0}, r"momentum is 1.0; it must be in \(0, 1\)"),
        ({"momentum": 0.0}, "momentum is 0.0"),
    ],
)
def test_refusals(settings: dict[str, float], sentence: str) -> None:
    weight = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match=sentence):
        decoupled_sgd([([weight], 1.0)], **{"lr": 1.0, "weight_decay": 0.0, "momentum": 0.9, **settings}, batch_size=8)
    with pytest.raises(ValueError, match=r"filter_lr is 0\.0; it must be > 0"):
        filter_muon([weight], 0.0, 0.6)
