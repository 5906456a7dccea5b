"""LARS against its formula in float64, vectors left alone, and refusals."""

import numpy as np
import pytest
import torch
from torch import nn

from modules.optimizers.lars import LARS


def test_equals_the_formula_over_several_steps() -> None:
    torch.manual_seed(0)
    settings = {"lr": 0.5, "momentum": 0.9, "weight_decay": 1e-2, "trust_coeff": 0.02}
    parameters = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((4, 3), (5,), (2, 3, 2, 2))]
    weights = [parameter.detach().numpy().copy() for parameter in parameters]
    speeds = [np.zeros_like(weight) for weight in weights]
    optimizer = LARS(iter(parameters), **settings)
    for _ in range(4):
        gradients = [torch.randn_like(parameter) for parameter in parameters]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        for i, gradient in enumerate(gradients):
            g, w = gradient.numpy(), weights[i]
            if w.ndim > 1:
                decay = settings["weight_decay"]
                sizes = np.linalg.norm(w.ravel()), np.linalg.norm(g.ravel())
                g = settings["trust_coeff"] * sizes[0] / (sizes[1] + decay * sizes[0]) * (g + decay * w)
            speeds[i] = settings["momentum"] * speeds[i] + g
            weights[i] = w - settings["lr"] * speeds[i]
        for parameter, weight in zip(parameters, weights, strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("rates", "equal"), [([0.5] * 4, True), ([0.5, 0.4, 0.2, 0.1], False)])
def test_the_papers_velocity_gives_the_same_steps_at_a_constant_rate_alone(rates: list[float], equal: bool) -> None:
    """Algorithm 1 of arXiv 1708.03888 has the learning rate inside the velocity."""
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    optimizer = LARS([parameter], lr=rates[0], momentum=0.9, weight_decay=0.0, trust_coeff=0.02)
    weight, velocity = parameter.detach().clone(), torch.zeros(4, 3, dtype=torch.float64)
    for rate in rates:
        parameter.grad = torch.randn_like(parameter)
        velocity = 0.9 * velocity + rate * 0.02 * weight.norm() / parameter.grad.norm() * parameter.grad
        weight = weight - velocity
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    assert torch.allclose(parameter.detach(), weight, rtol=1e-6, atol=1e-9) == equal


def test_without_decay_matrices_are_adapted_all_the_same() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.full((2, 2), 1e-3)
    LARS([weight], lr=1.0, momentum=0.0, weight_decay=0.0, trust_coeff=0.1).step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.9), rtol=1e-4, atol=0)


@pytest.mark.parametrize("coefficient", [0.0, -1.0])
def test_a_trust_coefficient_of_zero_or_less_is_refused(coefficient: float) -> None:
    with pytest.raises(ValueError, match=f"^trust_coeff is {coefficient}; it must be > 0"):
        LARS([nn.Parameter(torch.ones(1, 1))], trust_coeff=coefficient)
