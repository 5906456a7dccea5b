"""Frozen layers compute their output once for the same input; others are not affected."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules import LinearProbe
from pipelines.checks.classifier_checks import check_overfitting
from pipelines.checks.frozen_layers import compute_frozen_once


class Counted(nn.Linear):
    """A layer that counts its forward passes."""

    def __init__(self) -> None:
        super().__init__(3, 3)
        self.passes = 0

    def forward(self, values: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(values)


@pytest.mark.parametrize(
    ("frozen", "evaluation", "after_trained", "passes"),
    [(True, True, False, 2), (False, True, False, 3), (True, False, False, 3), (True, True, True, 3)],
)
def test_only_constant_outputs_are_kept(frozen: bool, evaluation: bool, after_trained: bool, passes: int) -> None:
    layer = Counted().requires_grad_(not frozen).train(not evaluation)
    model = nn.Sequential(nn.Linear(3, 3) if after_trained else nn.Flatten(), nn.Sequential(layer, nn.ReLU().eval()))
    model[1].train(not evaluation)
    first, second = torch.rand(4, 3), torch.rand(4, 3)
    expected = [model(inputs) for inputs in (first, first, second)]
    layer.passes = 0
    compute_frozen_once(model)
    for inputs, output in zip((first, first.clone(), second), expected, strict=True):
        torch.testing.assert_close(model(inputs), output, rtol=0, atol=0)
    assert layer.passes == passes


def test_a_linear_layer_on_random_frozen_features_can_overfit() -> None:
    torch.manual_seed(0)
    options = {"channels": [16, 32, 32, 64], "layers": [1, 1, 1, 1]}
    probe: Any = LinearProbe((3, 16, 16), 10, backbone="resnet26", options=options)
    images, labels = torch.randn(50, 3, 16, 16), torch.randint(10, (50,))
    weights = [value.clone() for value in probe.encoder.parameters()]
    result = check_overfitting(probe, images, labels)
    assert result.passed, result.figures
    assert all(torch.equal(value, before) for value, before in zip(probe.encoder.parameters(), weights, strict=True))
