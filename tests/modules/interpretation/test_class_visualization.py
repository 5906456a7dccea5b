"""Class visualization reaches the maximum of its objective, and repeats itself with the same seed."""

from typing import Any

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from modules.interpretation.class_visualization import gaussian_blur, visualize_classes


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2 * 6 * 7, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.mT


class UpperLeftPixel(nn.Module):
    """The score of class 0 is the upper left pixel, to which every shift moves another pixel."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images[:, 0, 0, 0], -images[:, 0, 0, 0]], 1)


def test_a_linear_score_has_its_known_maximum() -> None:
    """s − λ‖x − ½‖² is largest at x = ½ + w / 2λ, clamped to [0, 1]."""
    model, labels = Linear(), torch.tensor([2, 0])
    images = visualize_classes(model, labels, (2, 6, 7), steps=400, l2=2.0, jitter=0.0, blur=0.0)
    expected = (0.5 + model.weight[labels].detach().reshape(2, 2, 6, 7) / 4).clamp(0, 1)
    assert float((images - expected).abs().mean()) < 0.01


def test_jitter_spreads_the_change_over_positions() -> None:
    settings: dict[str, Any] = {"steps": 60, "l2": 0.0, "blur": 0.0, "step": 0.05}
    still = visualize_classes(UpperLeftPixel(), torch.tensor([0]), (1, 8, 8), jitter=0.0, **settings)
    moved = visualize_classes(UpperLeftPixel(), torch.tensor([0]), (1, 8, 8), jitter=0.25, **settings)
    assert int((still > 0.9).sum()) == 1
    assert int((moved > 0.9).sum()) > 8  # of the 25 pixels that shifts by up to 2 pixels move there


def test_blur_reduces_contrast() -> None:
    rough, smooth = (
        visualize_classes(Linear(), torch.tensor([1]), (2, 6, 7), steps=41, jitter=0.0, blur=blur)
        for blur in (0.0, 1.0)
    )
    assert float((smooth - smooth.roll(1, 3)).abs().mean()) < 0.7 * float((rough - rough.roll(1, 3)).abs().mean())


def test_the_same_seed_gives_the_same_images_and_torch_s_generator_is_unchanged() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    reported: list[int] = []
    first, again, other = (
        visualize_classes(
            Linear(), torch.tensor([1]), (2, 6, 7), steps=5, seed=seed, report=lambda step, _: reported.append(step)
        )
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert reported == 3 * [1, 2, 3, 4, 5]


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.7])
def test_the_blur_equals_scipy_s(sigma: float) -> None:
    images = torch.rand(2, 3, 12, 9, dtype=torch.float64)
    radius = max(1, round(3 * sigma))
    expected = gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=(0, 0, radius, radius))
    torch.testing.assert_close(gaussian_blur(images, sigma), torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"blur_every": 0}, "blur_every is 0; it must be at least 1"),
        ({"step": 0.0}, "step is 0.0; it must be > 0"),
        ({"l2": -1.0}, "l2 is -1.0; it must be ≥ 0"),
        ({"blur": -0.5}, "blur is -0.5; it must be ≥ 0"),
        ({"jitter": 1.5}, r"jitter is 1.5; it must be in \[0, 1\]"),
    ],
)
def test_values_out_of_range(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        visualize_classes(Linear(), torch.tensor([0]), (2, 6, 7), **settings)
