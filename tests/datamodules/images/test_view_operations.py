"""Each operation on a whole batch against torchvision's function on one image after the other, same parameters."""

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.functional as one
from torch import Tensor

from datamodules.images import view_operations as many

B, HEIGHT, WIDTH = 40, 14, 11


def uniform(low: float, high: float, seed: int = 1) -> Tensor:
    return low + (high - low) * torch.rand(B, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def images() -> Tensor:
    """Random colors, with a black, a white and a gray image among them, which have no hue."""
    images = torch.rand(B, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    images[0], images[1] = 0, 1
    images[2] = images[2, :1]
    return images


@pytest.mark.parametrize("size", [0, 5, 10, 19])
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_and_mirror(images: Tensor, channels: int, size: int) -> None:
    images = images[:, :channels]
    height, width = uniform(1, HEIGHT + 1).floor(), uniform(1, WIDTH + 1, 2).floor()
    top, left = (uniform(0, 1, 3) * (HEIGHT - height + 1)).floor(), (uniform(0, 1, 4) * (WIDTH - width + 1)).floor()
    height[3], width[3], top[3], left[3] = HEIGHT, WIDTH, 0, 0
    mirrored = uniform(0, 1, 5) < 0.5
    found = many.resized_crop(images, top, left, height, width, mirrored, size)
    for i in range(B):
        box = [int(value[i]) for value in (top, left, height, width)]
        expected = one.resized_crop(images[i], *box, size=[size or HEIGHT, size or WIDTH], antialias=True)
        torch.testing.assert_close(found[i], one.hflip(expected) if mirrored[i] else expected, rtol=0, atol=1e-5)
    assert mirrored.any() and not mirrored.all()
    if not mirrored[3] and not size:
        torch.testing.assert_close(found[3], images[3])


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_blur(images: Tensor, radius: int) -> None:
    sigma = uniform(0.1, 2)
    found = many.blur(images, sigma, radius)
    for i in range(B):
        expected = one.gaussian_blur(images[i], [2 * radius + 1] * 2, [float(sigma[i])] * 2)
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("mine", "its", "low", "high"),
    [
        (many.brightness, one.adjust_brightness, 0.0, 2.0),
        (many.contrast, one.adjust_contrast, 0.0, 2.0),
        (many.saturation, one.adjust_saturation, 0.0, 2.0),
        (many.hue, one.adjust_hue, -0.5, 0.5),
    ],
)
def test_colors(
    images: Tensor,
    mine: Callable[[Tensor, Tensor], Tensor],
    its: Callable[[Tensor, float], Tensor],
    low: float,
    high: float,
) -> None:
    factors, before = uniform(low, high), images.clone()
    found = mine(images, factors)
    for i in range(B):
        torch.testing.assert_close(found[i], its(images[i], float(factors[i])), rtol=0, atol=1e-5)
    assert torch.equal(images, before)


def test_luminance(images: Tensor) -> None:
    torch.testing.assert_close(many.luminance(images), one.rgb_to_grayscale(images), rtol=0, atol=1e-6)
    assert torch.equal(many.luminance(images[:, :1]), images[:, :1])


def test_a_turn_by_a_third_of_the_circle_swaps_the_channels(images: Tensor) -> None:
    turned = many.hue(images, torch.full((B,), 1 / 3))
    torch.testing.assert_close(turned, images.roll(1, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(many.hue(images, torch.zeros(B)), images, rtol=0, atol=1e-6)
