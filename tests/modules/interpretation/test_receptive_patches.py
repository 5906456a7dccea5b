"""Receptive fields equal the formula for chains of layers; the strongest units equal those of a loop."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modules import ConvNet
from modules.interpretation.receptive_patches import Box, receptive_fields, strongest_units


@pytest.mark.parametrize("seed", range(4))
def test_the_formula_for_chains(seed: int) -> None:
    rng = random.Random(seed)
    layers: list[nn.Module] = []
    side, jump, start = 1, 1, 0  # side of a field, distance of two units and start of unit 0, in pixels
    for _ in range(4):
        kernel, stride = rng.choice([1, 3, 5]), rng.choice([1, 2])
        padding = kernel // 2
        layers += [nn.Conv2d(2, 2, kernel, stride, padding), nn.ReLU(), nn.MaxPool2d(2, 1)]
        for size, step, pad in ((kernel, stride, padding), (2, 1, 0)):
            side, start, jump = side + (size - 1) * jump, start - pad * jump, jump * step
    network = nn.Sequential(*layers)
    height, width = network(torch.zeros(1, 2, 150, 161)).shape[2:]
    units = [
        (height // 2, width // 2),
        (height // 3, width // 2),
    ]  # at the border, fields are cut off by the maps' borders too
    for (row, column), box in zip(units, receptive_fields(network, "11", (2, 150, 161), units), strict=True):
        x0, y0 = start + column * jump, start + row * jump
        assert box == Box(x0, y0, x0 + side, y0 + side)


def test_branches_and_layers_that_depend_on_the_whole_image() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow, self.add = nn.Conv2d(1, 1, 7, padding=3), nn.Conv2d(1, 1, 1), nn.Identity()
            self.gate = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            added = self.add(self.wide(images) + self.narrow(images))
            return self.gate(added * added.mean((2, 3), keepdim=True)).mean((2, 3))

    model = Branches()
    assert receptive_fields(model, "narrow", (1, 20, 20), [(9, 4)]) == [Box(4, 9, 5, 10)]
    assert receptive_fields(model, "add", (1, 20, 20), [(9, 4)]) == [Box(1, 6, 8, 13)]
    assert receptive_fields(model, "gate", (1, 20, 20), [(9, 4)]) == [Box(0, 0, 20, 20)]


def test_a_preprocessing_in_float32_works_and_the_model_is_unchanged() -> None:
    model = ConvNet((3, 16, 16), 4, [4, 6], 1).train()
    model.register_forward_pre_hook(lambda _, inputs: ((inputs[0].float() - 0.5) / 0.2,))
    assert receptive_fields(model, "stages.1.0", (3, 16, 16), [(3, 3)]) == [Box(3, 3, 11, 11)]
    assert model.training and model.output.weight.dtype == torch.float32
    assert not any(module._forward_hooks for module in model.modules())


def test_the_strongest_unit_of_each_image() -> None:
    maps = np.random.default_rng(0).standard_normal((5, 3, 4, 6)).astype(np.float32)
    strongest = strongest_units(torch.from_numpy(maps), 2)
    assert len(strongest) == 3
    for channel, units in enumerate(strongest):
        peaks = sorted(
            ((maps[i, channel].max(), i, *np.unravel_index(maps[i, channel].argmax(), (4, 6))) for i in range(5)),
            reverse=True,
        )
        assert [tuple(unit) for unit in units] == [tuple(peak) for peak in peaks[:2]]
    assert len(strongest_units(torch.from_numpy(maps), 9)[0]) == 5


def test_a_layer_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"ConvNet has no layer 'stages\.7'; did you mean"):
        receptive_fields(ConvNet((3, 8, 8), 4, [4], 1), "stages.7", (3, 8, 8), [(0, 0)])
