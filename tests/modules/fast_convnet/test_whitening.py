"""Whitened patches have the identity as covariance; the covariance itself equals numpy's."""

import numpy as np
import pytest
import torch
from torch import Tensor

from modules.fast_convnet.whitening import Whitening, patch_covariance


def correlated_images(count: int = 60, shape: tuple[int, int, int] = (3, 9, 8)) -> Tensor:
    """Smooth images with a mean that is not 0."""
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    return noise.cumsum(3) / 2 + noise.mean(1, keepdim=True) + 0.7


def patches_by_loop(images: Tensor, side: int) -> np.ndarray:
    """All patches, one a row: (N · (H − k + 1) · (W − k + 1), C · k · k)."""
    height, width = images.shape[2:]
    rows = [
        image[:, top : top + side, left : left + side].flatten().numpy()
        for image in images.double()
        for top in range(height - side + 1)
        for left in range(width - side + 1)
    ]
    return np.stack(rows)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_covariance_equals_numpys(side: int) -> None:
    images = correlated_images()
    expected = np.cov(patches_by_loop(images, side), rowvar=False, bias=True)
    np.testing.assert_allclose(patch_covariance(images, side), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("side", [2, 3])
def test_whitened_patches_have_the_identity_as_covariance(side: int) -> None:
    images = correlated_images(600).double()
    layer = Whitening(3, side, epsilon=0.0).double()
    layer.fit(images)
    half = 3 * side * side
    maps = layer(images)
    assert maps.shape == (600, 2 * half, 9 - side + 1, 8 - side + 1)
    torch.testing.assert_close(maps[:, half:], -maps[:, :half])
    outputs = maps[:, :half].movedim(1, 0).flatten(1)
    torch.testing.assert_close(outputs.cov(correction=0), torch.eye(half, dtype=torch.float64), rtol=0, atol=1e-8)


def test_epsilon_limits_directions_without_variance() -> None:
    images = correlated_images().clone()
    images[:, 2] = images[:, 1]  # differences of the two channels never vary
    layer = Whitening(3, epsilon=0.25)
    layer.fit(images)
    assert layer.weight.isfinite().all()
    assert layer.weight.flatten(1).norm(dim=1).max().item() == pytest.approx(2.0, rel=1e-4)  # 1 / √ε


def test_filters_are_deterministic_and_in_the_state_dict() -> None:
    images = correlated_images()
    layers = [Whitening(3) for _ in range(3)]
    assert layers[2](images)[:, :12].shape == (60, 12, 8, 7)
    layers[0].fit(images)
    layers[1].fit(images.clone())
    assert torch.equal(layers[0].weight, layers[1].weight)
    layers[2].load_state_dict(layers[0].state_dict())
    assert torch.equal(layers[0](images), layers[2](images))
    assert [name for name, _ in layers[0].named_parameters()] == ["bias"]


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (
            torch.zeros(3, 3, 3, 3),
            "more than 12 patches, the number of their values, but the images have 12; give more",
        ),
        (torch.zeros(9, 3, 1, 8), "but the images have 0"),
        (torch.zeros(9, 1, 8, 8), r"takes images \(C, H, W\) with 3 channels, but these have shape \(1, 8, 8\)"),
        (torch.zeros(9, 192), r"but these have shape \(192,\)"),
    ],
)
def test_images_that_cannot_be_whitened(images: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Whitening(3).fit(images)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="kernel_size is 0; it must be at least 1"):
        Whitening(3, 0)
    with pytest.raises(ValueError, match="whitening_epsilon is -1; it must be ≥ 0"):
        Whitening(3, epsilon=-1)
