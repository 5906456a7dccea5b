"""Histograms have exactly the counts of numpy and of the course's loop, also where a value lies on an edge of bins."""

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv

from datamodules.images.color_histograms import color_histogram, hue, hue_histogram
from datamodules.images.shape_drawing import draw_shapes


def images_of(kind: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    if kind == "drawn":
        return draw_shapes(30, seed=3).images
    levels = {"random": 256, "few levels": 6, "dark": 4}[kind]  # few levels put many hues on the edges of bins
    return (rng.integers(0, levels, (60, 3, 32, 32)) * {"few levels": 51}.get(kind, 1)).astype(np.uint8)


def loop(images: np.ndarray, bins: int) -> np.ndarray:
    edges = np.linspace(0, 255, bins + 1)
    hues = [rgb_to_hsv(image.transpose(1, 2, 0).astype(np.float64) / 255)[..., 0] * 255 for image in images]
    return np.stack([np.histogram(values, bins=edges)[0] for values in hues])


@pytest.mark.parametrize("kind", ["random", "few levels", "dark", "drawn"])
@pytest.mark.parametrize("bins", [1, 6, 7, 10, 16, 30])
def test_exactly_the_counts_of_the_loop(kind: str, bins: int) -> None:
    images = images_of(kind)
    found = hue_histogram(torch.from_numpy(images), bins)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy() * 1024, loop(images, bins))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bins", [1, 6, 10, 15, 16, 51, 256, 300])
def test_exactly_numpys_counts_of_each_channel(channels: int, bins: int) -> None:
    images = np.random.default_rng(channels).integers(0, 256, (20, channels, 9, 11)).astype(np.uint8)
    images[0], images[1], images[2] = 0, 255, 51  # both ends, and an edge of 10 bins
    found = color_histogram(torch.from_numpy(images), bins)
    expected = [[np.histogram(channel, bins, (0, 255))[0] for channel in image] for image in images]
    assert found.shape == (20, channels * bins) and found.dtype == torch.float32
    np.testing.assert_array_equal(np.rint(found.numpy() * 99), np.reshape(expected, (20, -1)))
    np.testing.assert_allclose(found.numpy() * 99, np.reshape(expected, (20, -1)), rtol=1e-6)


def test_channels_are_counted_apart_and_mirrored_images_are_counted_alike() -> None:
    image = torch.tensor([250, 130, 0], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert color_histogram(image).reshape(3, 10).argmax(1).tolist() == [9, 5, 0]
    images = torch.from_numpy(images_of("random"))
    assert torch.equal(color_histogram(images), color_histogram(images.flip(3)))


def test_hue_is_that_of_matplotlib_to_the_last_bit() -> None:
    images = images_of("random")
    expected = rgb_to_hsv(images.transpose(0, 2, 3, 1).astype(np.float64) / 255)[..., 0]
    np.testing.assert_array_equal(hue(torch.from_numpy(images)).numpy(), expected)


def test_pure_colors_fall_where_they_belong_and_gray_counts_as_red() -> None:
    colors = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90], [0, 0, 0]], dtype=torch.uint8)
    found = hue_histogram(colors.reshape(5, 3, 1, 1), 10)
    assert found.argmax(1).tolist() == [0, 3, 6, 0, 0]
    assert found.sum(1).tolist() == [1.0] * 5


@pytest.mark.parametrize(
    ("images", "bins", "said"),
    [
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 10, r"1 channel\(s\), but hue needs RGB; use color or hog"),
        (torch.zeros(1, 3, 8, 8), 10, "images are torch.float32"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), 10, r"shape \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0, "bins is 0"),
    ],
)
def test_wrong_input_of_hue_is_refused(images: torch.Tensor, bins: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        hue_histogram(images, bins)


@pytest.mark.parametrize(
    ("images", "bins", "said"),
    [
        (torch.zeros(1, 3, 8, 8), 10, r"images are torch.float32 .* must be uint8 \(B, C, H, W\)"),
        (torch.zeros(8, 8, dtype=torch.uint8), 10, r"shape \(8, 8\)"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 0, "bins is 0; it must be at least 1"),
    ],
)
def test_wrong_input_of_color_is_refused(images: torch.Tensor, bins: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        color_histogram(images, bins)
