"""HOG equals scikit-image's, image by image in float64, on random, flat, noisy and structured images."""

import numpy as np
import pytest
import skimage.feature
import torch

from datamodules.images.hog import hog
from datamodules.images.shape_drawing import draw_shapes


def images_of(kind: str, channels: int = 3, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    rng = np.random.default_rng(7)
    if kind == "drawn":
        return draw_shapes(30, seed=3).images
    if kind == "few levels":  # many gradients on the border of two orientations, many ties between channels
        return (rng.integers(0, 6, (40, channels, *size)) * 51).astype(np.uint8)
    return rng.integers(0, 256, (40, channels, *size), dtype=np.uint8)


def reference(images: np.ndarray, orientations: int, cell: int, block: int) -> np.ndarray:
    return np.stack(
        [
            skimage.feature.hog(
                image.transpose(1, 2, 0).astype(np.float64), orientations, (cell, cell), (block, block), channel_axis=-1
            )
            for image in images
        ]
    )


@pytest.mark.parametrize("kind", ["random", "few levels", "drawn"])
@pytest.mark.parametrize("orientations, cell, block", [(9, 8, 3), (9, 4, 2), (8, 5, 2), (12, 3, 1), (1, 16, 2)])
def test_equals_scikit_image(kind: str, orientations: int, cell: int, block: int) -> None:
    images = images_of(kind)
    expected = reference(images, orientations, cell, block)
    found = hog(torch.from_numpy(images), orientations, cell, block)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(28, 28), (17, 33), (8, 8)])
def test_equals_scikit_image_in_grayscale_and_other_sizes(size: tuple[int, int]) -> None:
    images = images_of("random", 1, size)
    found = hog(torch.from_numpy(images), 9, 4, 2)
    np.testing.assert_allclose(found.numpy(), reference(images, 9, 4, 2), rtol=0, atol=1e-6)


def test_a_vertical_edge_votes_for_the_first_orientation_alone() -> None:
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[..., 4:] = 200
    cells = hog(image, orientations=9, cell_size=8, block_size=1)[0]
    assert cells.tolist() == pytest.approx([1.0] + [0.0] * 8, abs=1e-6)


def test_a_flat_image_has_no_features() -> None:
    assert torch.equal(hog(torch.full((2, 3, 16, 16), 77, dtype=torch.uint8)), torch.zeros(2, 324))


def test_other_images_of_the_batch_do_not_matter() -> None:
    images = torch.from_numpy(images_of("random"))
    assert torch.equal(hog(images)[5:6], hog(images[5:6]))


@pytest.mark.parametrize(
    ("images", "settings", "said"),
    [
        (torch.zeros(1, 3, 32, 32), {}, "images are torch.float32"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), {}, r"of shape \(3, 32, 32\); they must be uint8"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), {"orientations": 0}, "orientations is 0"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), {"cell_size": 0}, "cell_size is 0"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), {"block_size": -1}, "block_size is -1"),
        (torch.zeros(1, 3, 7, 32, dtype=torch.uint8), {}, "7×32 pixels is smaller than a block"),
    ],
)
def test_wrong_input_is_refused(images: torch.Tensor, settings: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        hog(images, **settings)
