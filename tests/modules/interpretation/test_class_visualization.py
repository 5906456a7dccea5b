"""Class visualization climbs to where its objective is largest, and repeats itself from the same seed."""

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


class Darkest(nn.Module):
    """Class 0 is the upper left pixel, whose score no shift can keep in place."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images[:, 0, 0, 0], -images[:, 0, 0, 0]], 1)


def test_a_linear_score_has_its_known_maximum() -> None:
    """s − λ‖x − ½‖² is largest at x = ½ + w / 2λ, cut to [0, 1]."""
    model, labels = Linear(), torch.tensor([2, 0])
    found = visualize_classes(model, labels, (2, 6, 7), steps=400, l2=2.0, jitter=0.0, blur=0.0)
    expected = (0.5 + model.weight[labels].detach().reshape(2, 2, 6, 7) / 4).clamp(0, 1)
    assert float((found - expected).abs().mean()) < 0.01


def test_jitter_spreads_what_one_place_sees() -> None:
    settings: dict[str, Any] = {"steps": 60, "l2": 0.0, "blur": 0.0, "step": 0.05}
    still = visualize_classes(Darkest(), torch.tensor([0]), (1, 8, 8), jitter=0.0, **settings)
    moved = visualize_classes(Darkest(), torch.tensor([0]), (1, 8, 8), jitter=0.25, **settings)
    assert int((still > 0.9).sum()) == 1
    assert int((moved > 0.9).sum()) > 8  # of the 25 places that shifts by up to 2 pixels bring there


def test_blur_takes_away_contrast() -> None:
    rough, smooth = (
        visualize_classes(Linear(), torch.tensor([1]), (2, 6, 7), steps=41, jitter=0.0, blur=blur)
        for blur in (0.0, 1.0)
    )
    assert float((smooth - smooth.roll(1, 3)).abs().mean()) < 0.7 * float((rough - rough.roll(1, 3)).abs().mean())


def test_the_same_seed_draws_the_same_and_torch_s_own_is_left_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    seen: list[int] = []
    first, again, other = (
        visualize_classes(
            Linear(), torch.tensor([1]), (2, 6, 7), steps=5, seed=seed, report=lambda step, _: seen.append(step)
        )
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert seen == 3 * [1, 2, 3, 4, 5]


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.7])
def test_the_blur_is_scipy_s(sigma: float) -> None:
    images = torch.rand(2, 3, 12, 9, dtype=torch.float64)
    radius = max(1, round(3 * sigma))
    expected = gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=(0, 0, radius, radius))
    torch.testing.assert_close(gaussian_blur(images, sigma), torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "steps is 0 and blur_every is 10; give at least 1"),
        ({"blur_every": 0}, "blur_every is 0"),
        ({"step": 0.0}, "step is 0.0, l2 0.01 and blur 0.5"),
        ({"l2": -1.0}, "l2 -1.0"),
        ({"jitter": 1.5}, "jitter is 1.5; give a share"),
    ],
)
def test_values_out_of_range(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        visualize_classes(Linear(), torch.tensor([0]), (2, 6, 7), **settings)
