"""Grad-CAM equals its formula, computed by hand in numpy on a network of two layers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import SoftmaxRegression
from modules.interpretation.grad_cam import grad_cam


class TwoLayers(nn.Module):
    """A convolution, ReLU, and an affine layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3)
        self.relu = nn.ReLU(inplace=True)
        self.unused = nn.Conv2d(2, 5, 3)
        self.output = nn.Linear(5 * 4 * 6, 3)

    def forward(self, images: Tensor) -> Tensor:
        self.unused(images)
        return self.output(self.relu(self.conv(images)).flatten(1))


def by_hand(model: TwoLayers, image: np.ndarray, label: int, after_relu: bool) -> np.ndarray:
    """Image (2, 6, 8) to the coarse map (4, 6)."""
    weight, bias = (tensor.detach().numpy() for tensor in model.conv.parameters())
    maps = np.zeros((5, 4, 6))
    for m in range(5):
        for row in range(4):
            for column in range(6):
                maps[m, row, column] = (weight[m] * image[:, row : row + 3, column : column + 3]).sum() + bias[m]
    gradient = model.output.weight.detach().numpy()[label].reshape(5, 4, 6)
    if after_relu:
        maps = np.maximum(maps, 0)
    else:
        gradient = gradient * (maps > 0)
    return np.maximum((gradient.mean((1, 2))[:, None, None] * maps).sum(0), 0)


@pytest.mark.parametrize(("layer", "after_relu"), [("conv", False), ("relu", True)])
def test_the_formula(layer: str, after_relu: bool) -> None:
    torch.manual_seed(0)
    model = TwoLayers().double().requires_grad_(False)
    images = torch.randn(4, 2, 6, 8, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 1])
    maps = grad_cam(model, images, labels, layer)
    coarse = np.stack(
        [by_hand(model, image, label, after_relu) for image, label in zip(images.numpy(), labels.tolist(), strict=True)]
    )
    assert (coarse > 0).any(axis=(1, 2)).all()
    expected = F.interpolate(torch.from_numpy(coarse)[:, None], size=(6, 8), mode="bilinear")[:, 0]
    torch.testing.assert_close(maps, expected)


def test_the_last_layer_with_maps_is_the_default() -> None:
    model, images = TwoLayers(), torch.randn(2, 2, 6, 8)
    labels = torch.tensor([0, 1])
    assert torch.equal(grad_cam(model, images, labels), grad_cam(model, images, labels, "relu"))


def test_refusals() -> None:
    images, labels = torch.randn(2, 2, 6, 8), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="TwoLayers has no layer 'convs'; did you mean conv"):
        grad_cam(TwoLayers(), images, labels, "convs")
    with pytest.raises(ValueError, match="TwoLayers have no gradient with respect to layer 'unused'; choose a layer"):
        grad_cam(TwoLayers(), images, labels, "unused")
    with pytest.raises(ValueError, match="SoftmaxRegression has no layer that outputs maps"):
        grad_cam(SoftmaxRegression((2, 6, 8), 3), images, labels)
