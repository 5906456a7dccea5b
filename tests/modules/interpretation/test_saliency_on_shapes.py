"""Saliency lies on the shape for a network trained on drawn shapes, and much less so for an untrained one.

The top 5 % of the map's pixels are counted over 500 test images. Shapes are mostly near the middle, and so are the
largest gradients of any network, since padding weakens them at the border: the level of chance is that of a network's
maps with the boxes of other images. The network is trained with noise on its images, so that single pixels do not
decide.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.images.shape_drawing import draw_shapes
from modules import ConvNet
from modules.interpretation.saliency import integrated_gradients, saliency

TEST = draw_shapes(500, seed=1)


class Shares(NamedTuple):
    """Fractions of a map's top 5 % inside the shape's box, and inside the box of another image."""

    inside: float
    chance: float


def pixels(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).float() / 127.5 - 1


def share_in(boxes: np.ndarray, maps: Tensor) -> float:
    """Returns the fraction of the top 5 % of maps (N, 32, 32) inside boxes (N, 4)."""
    top = maps.flatten(1).topk(51).indices.numpy()  # 5 % of 1024
    y, x = top // 32, top % 32
    x0, y0, x1, y1 = (boxes[:, i : i + 1] for i in range(4))
    return float(((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).mean())


def shares(maps: Tensor) -> Shares:
    return Shares(share_in(TEST.boxes, maps), share_in(np.roll(TEST.boxes, 1, 0), maps))


IMAGES, LABELS = pixels(TEST.images), torch.from_numpy(TEST.labels)


def network() -> ConvNet:
    torch.manual_seed(0)
    return ConvNet((3, 32, 32), 10, [16, 32, 64], 1)


@pytest.fixture(scope="module")
def untrained() -> ConvNet:
    return network().eval()


@pytest.fixture(scope="module")
def trained() -> ConvNet:
    """A network trained for 40 seconds on one core; it classifies three quarters of the test shapes or more."""
    drawn = draw_shapes(10_000, seed=0)
    images, labels = pixels(drawn.images), torch.from_numpy(drawn.labels)
    model = network()
    epochs, batch = 9, 64
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch)[: len(images) // batch]:
            noisy = images[chosen] + 0.1 * torch.randn(batch, *images.shape[1:])
            loss = F.cross_entropy(model(noisy), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@pytest.mark.slow
def test_the_trained_network_classifies_shapes(trained: ConvNet) -> None:
    with torch.no_grad():
        predicted = trained(IMAGES).argmax(1)
    assert float((predicted == LABELS).float().mean()) > 0.7


@pytest.mark.slow
def test_saliency_of_the_trained_network_lies_on_the_shape(trained: ConvNet, untrained: ConvNet) -> None:
    found, random = (shares(saliency(one, IMAGES, LABELS)) for one in (trained, untrained))
    width, height = (TEST.boxes[:, i + 2] - TEST.boxes[:, i] for i in range(2))
    area = float((width * height).mean()) / 1024
    print(f"trained {found}, untrained {random}, area {area:.3f}")
    assert found.inside >= 0.80 > 3 * area
    assert found.inside - found.chance > 0.15
    assert random.inside < 0.5 and random.inside - random.chance < 0.1
    assert abs(random.chance - area) < 0.2


@pytest.mark.slow
def test_integrated_gradients_from_the_mean_color_outline_the_shape_without_training(
    trained: ConvNet, untrained: ConvNet
) -> None:
    """Such a map proves little: it is multiplied by the difference from the mean color, which outlines the shape."""
    mean_color = IMAGES.mean((2, 3), keepdim=True)
    found, random = (
        shares(integrated_gradients(one, IMAGES, LABELS, mean_color, 16).sum(1).abs()) for one in (trained, untrained)
    )
    print(f"trained {found}, untrained {random}")
    assert found.inside > 0.75 and random.inside > 0.6
