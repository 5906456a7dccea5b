"""Histogram of oriented gradients (HOG): the edges of an image by position and orientation.

    g(r, c) = (x(r+1, c) − x(r−1, c),  x(r, c+1) − x(r, c−1))     of the channel where |g| is largest, 0 on the border
    h(cell, k) = 1/c² · Σ |g| over the cell's pixels whose angle, mod 180°, lies in [180° k/O, 180° (k+1)/O)
    v = h(block) / √(‖h(block)‖² + ε²),    w = min(v, 0.2),    f = w / √(‖w‖² + ε²)               ("L2-Hys", ε = 1e-5)

Blocks of b×b cells overlap: one starts at every cell. `skimage.feature.hog(image, O, (c, c), (b, b),
channel_axis=-1)` computes the same of images in [0, 255]. The course first converts to grayscale with weights 0.299,
0.587 and 0.144 (the standard's last is 0.114), without blocks or normalization; color and blocks classify better.

Sources: N. Dalal, B. Triggs, "Histograms of oriented gradients for human detection", CVPR 2005;
https://cs231n.github.io/assignments2024/assignment1/

Shapes: B images in a batch, C channels, H×W pixels, R×S cells, O orientations.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.ranges import check_range

_LEVELS = 511  # a difference of two pixels is −255 to 255
_EPSILON = 1e-5
_CLIP = 0.2


def hog(images: Tensor, orientations: int = 9, cell_size: int = 4, block_size: int = 2) -> Tensor:
    """Computes the histogram of oriented gradients of each image.

    Args:
        images: Images, (B, C, H, W) uint8.
        orientations: O, the number of orientations, ≥ 1; each spans 180°/O.
        cell_size: Side of a cell in pixels, ≥ 1; pixels beyond the last whole cell are ignored.
        block_size: Side of a block in cells, ≥ 1.

    Returns:
        (B, (R − b + 1)(S − b + 1) b² O) float32, with R = H // cell_size, S = W // cell_size, b = block_size; values in
        [0, 1], in scikit-image's order.

    Raises:
        ValueError: If images have another dtype or shape or are smaller than one block, or a setting is below 1.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UserError(f"images are {images.dtype} of shape {tuple(images.shape)}; they must be uint8 (B, C, H, W).")
    check_range("orientations", orientations, orientations >= 1, "at least 1")
    check_range("cell_size", cell_size, cell_size >= 1, "at least 1")
    check_range("block_size", block_size, block_size >= 1, "at least 1")
    height, width = images.shape[2:]
    rows, columns = height // cell_size, width // cell_size
    if min(rows, columns) < block_size:
        raise UserError(
            f"An image of {height}×{width} pixels is smaller than a block of {block_size}×{block_size} cells of "
            f"{cell_size} pixels; give larger images or smaller cells or blocks."
        )
    gradients = _strongest_gradients(images)[:, : rows * cell_size, : columns * cell_size].flatten(1)
    magnitudes, bins = (table.to(images.device) for table in _tables(orientations))
    cell_of_row = torch.arange(rows * cell_size, device=images.device) // cell_size
    cell_of_column = torch.arange(columns * cell_size, device=images.device) // cell_size
    cells = (cell_of_row[:, None] * columns + cell_of_column).flatten() * orientations
    histogram = torch.zeros(len(images), rows * columns * orientations, device=images.device)
    flat = gradients.flatten()
    votes = magnitudes.index_select(0, flat).view_as(gradients)
    histogram.scatter_add_(1, bins.index_select(0, flat).view_as(gradients) + cells, votes)
    histogram = histogram.div_(cell_size**2).view(len(images), rows, columns, orientations)
    windows = histogram.unfold(1, block_size, 1).unfold(2, block_size, 1)  # (B, R−b+1, S−b+1, O, b, b)
    blocks = windows.permute(0, 1, 2, 4, 5, 3).flatten(3)  # (B, R−b+1, S−b+1, b² O)
    return _unit(_unit(blocks).clamp_(max=_CLIP)).flatten(1)


def _strongest_gradients(images: Tensor) -> Tensor:
    """Gradient of the channel where it is largest: (B, C, H, W) uint8 to indices in the tables, (B, H, W) int32."""
    pixels = images.int()
    indices = torch.full_like(pixels, _LEVELS * _LEVELS // 2)  # of the gradient (0, 0)
    indices[:, :, 1:-1] += _LEVELS * (pixels[:, :, 2:] - pixels[:, :, :-2])
    indices[..., 1:-1] += pixels[..., 2:] - pixels[..., :-2]
    strongest = indices[:, 0]
    if images.shape[1] > 1:
        ranks = _ranks().to(images.device).index_select(0, indices.flatten()).view_as(indices)
        largest = ranks[:, 0]
        for index, rank in zip(indices.unbind(1)[1:], ranks.unbind(1)[1:], strict=True):
            larger = rank > largest  # a tie keeps the first channel's gradient
            strongest, largest = torch.where(larger, index, strongest), torch.where(larger, rank, largest)
    return strongest


def _unit(blocks: Tensor) -> Tensor:
    """Normalizes vectors along the last dimension to a length of almost 1."""
    return blocks / blocks.square().sum(-1, keepdim=True).add_(_EPSILON**2).sqrt_()


def _all_gradients() -> tuple[np.ndarray, np.ndarray]:
    """Row and column components of every possible gradient of uint8 images, (511 · 511,) float64 each."""
    differences = np.arange(_LEVELS, dtype=np.float64) - 255
    return np.repeat(differences, _LEVELS), np.tile(differences, _LEVELS)


@cache
def _ranks() -> Tensor:
    """Rank of each gradient by magnitude, (511 · 511,) int32.

    Magnitudes are compared as `np.hypot` rounds them, since a tie decides which channel's direction counts.
    """
    ranks = np.unique(np.hypot(*_all_gradients()), return_inverse=True)[1]
    return torch.from_numpy(ranks.astype(np.int32))


@cache
def _tables(orientations: int) -> tuple[Tensor, Tensor]:
    """Magnitude, float32, and index of the orientation, int64, of every gradient: (511 · 511,) each.

    Computed in float64, since float32 would round angles on the border of two orientations to either side.
    """
    down, right = _all_gradients()
    angles = np.rad2deg(np.arctan2(down, right)) % 180
    bins = np.floor(angles / (180 / orientations)).astype(np.int64)
    return torch.from_numpy(np.hypot(down, right).astype(np.float32)), torch.from_numpy(bins)
