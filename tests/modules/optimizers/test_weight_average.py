"""The moving average of weights against its formula in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from modules.optimizers.weight_average import WeightAverage


def test_weights_and_running_figures_follow_the_formula() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    average = WeightAverage(network, 0.6)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    expected = {name: value.clone().numpy() for name, value in network.state_dict().items()}
    decays = []
    for step in range(1, 9):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(5, 3, dtype=torch.float64))  # moves the running figures
        average.update(network, step)
        decay = min(0.6, (1 + step) / (10 + step))
        decays.append(decay)
        for name, value in network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.numpy()
    assert decays[0] == 2 / 11 and decays[-1] == 0.5  # below 0.6 all along; see the next test for above
    for name, value in average.network.state_dict().items():
        if value.is_floating_point():
            np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-12, err_msg=name)
    images = torch.randn(6, 3, dtype=torch.float64)
    assert torch.equal(average.eval()(images), average.network.eval()(images))


def test_the_decay_is_the_largest_and_0_takes_the_weights_as_they_are() -> None:
    network = nn.Linear(1, 1, bias=False).double()
    for decay, expected in ((0.9, 0.9 * 1.0 + 0.1 * 3.0), (0.0, 3.0)):
        nn.init.ones_(network.weight)
        average = WeightAverage(network, decay)
        nn.init.constant_(network.weight, 3.0)
        average.update(network, 10_000)
        (weight,) = average.parameters()
        assert weight.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_refusals(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"ema_decay is {decay}; it must be in \[0, 1\)"):
        WeightAverage(nn.Linear(1, 1), decay)
