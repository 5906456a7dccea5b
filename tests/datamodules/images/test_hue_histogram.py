"""Hue histograms have exactly the counts of the course's loop, also where a hue lies on the edge of two bins."""

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv

from datamodules.images.hue_histogram import hue, hue_histogram
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
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 10, r"1 channel\(s\), but hue needs RGB; use hog alone"),
        (torch.zeros(1, 3, 8, 8), 10, "images are torch.float32"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), 10, r"shape \(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0, "bins is 0"),
    ],
)
def test_wrong_input_is_refused(images: torch.Tensor, bins: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        hue_histogram(images, bins)
