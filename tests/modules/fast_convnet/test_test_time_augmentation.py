"""The mean over the views of test-time augmentation against shifts and mirroring in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from modules.fast_convnet.test_time_augmentation import augmented_logits


def logits_of(images: Tensor) -> Tensor:
    """Two logits that every shift and mirroring changes."""
    height, width = images.shape[2:]
    rows = torch.arange(height, dtype=images.dtype)[:, None]
    columns = torch.arange(width, dtype=images.dtype)
    return torch.stack([(images * (rows + 3 * columns)).sum((1, 2, 3)), (images * columns**2).sum((1, 2, 3))], 1)


def reflected(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """An image (C, H, W) moved by `down` and `right` pixels, with reflected borders."""
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]


@pytest.mark.parametrize(
    ("augmentation", "weights"),
    [
        ("one", {(0, 0, False): 1.0}),
        ("mirror", {(0, 0, False): 0.5, (0, 0, True): 0.5}),
        (
            "mirror_and_shift",
            {(0, 0, False): 0.25, (0, 0, True): 0.25}
            | {(move, move, side): 0.125 for move in (-1, 1) for side in (False, True)},
        ),
    ],
)
def test_logits_equal_the_weighted_mean(augmentation: str, weights: dict[tuple[int, int, bool], float]) -> None:
    images = torch.rand(3, 2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert sum(weights.values()) == 1
    expected = torch.zeros(3, 2, dtype=torch.float64)
    for (down, right, mirrored), weight in weights.items():
        view = np.stack([reflected(image, down, right) for image in images.numpy()])
        view = view[..., ::-1].copy() if mirrored else view
        expected += weight * logits_of(torch.from_numpy(view))
    torch.testing.assert_close(augmented_logits(logits_of, images, augmentation), expected)  # type: ignore[arg-type]
