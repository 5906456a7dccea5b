"""Draws labeled images of ten kinds of shape on varied backgrounds, in any number and without a download.

An image is alpha-composited from its layers; `shape_masks` computes how much of each pixel a shape covers.

Shapes: N images, B images of one block, S pixels of an image's side.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.ranges import check_range
from datamodules.images.shape_masks import (
    SHAPE_NAMES,
    Floats,
    coverage,
    intersection,
    mask_boxes,
    rotated_grid,
    shape_mask,
)

BLOCK = 50  # images from one random stream; a multiple of ten, and small enough for the arrays to stay in cache
MIN_SIZE = 24  # the smallest arrow's shaft is 0.07 of the side wide: less than two pixels at this size
RADIUS_RANGE = (0.16, 0.38)  # as fractions of the image's side
MAX_TILT = np.pi / 9  # a square tilted by more than about 20 degrees resembles a diamond
MIN_CONTRAST = 0.3  # distance of shape and background in RGB, of at most sqrt(3)
BRIGHT_SHARE = 0.85  # of shapes brighter than the background; as in photographs, the asymmetry helps linear models
MAX_LINES, MAX_SPECKS = 2, 4


class ShapeImages(NamedTuple):
    """Images with the kind and the bounding box of the shape in each of them."""

    images: NDArray[np.uint8]  # (N, 3, S, S), RGB, 0 to 255
    labels: NDArray[np.int64]  # (N,), index into SHAPE_NAMES
    boxes: NDArray[np.int64]  # (N, 4), x0, y0, x1, y1 of all pixels that the shape covers, x1 and y1 exclusive


def uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Floats:
    return low + (high - low) * rng.random(shape, dtype=np.float32)


def paint(canvas: Floats, coverage: Floats, color: Floats) -> None:
    """Paints `color` (B, 3) over `canvas` (B, 3, S, S) with the opacity `coverage` (B, S, S), in place."""
    canvas += coverage[:, None] * (color[:, :, None, None] - canvas)


def _draw_colors(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Draws colors (B, 3) of the shape, of the background, and the second one of the background's pattern."""
    background = uniform(rng, 0, 1, BLOCK, 3)
    candidates = uniform(rng, 0, 1, BLOCK, 16, 3)
    contrasts = np.linalg.norm(candidates - background[:, None], axis=-1)  # (B, 16)
    # The first candidate with enough contrast: with the most, all shapes would be black or white.
    chosen = np.where((contrasts > MIN_CONTRAST).any(1), (contrasts > MIN_CONTRAST).argmax(1), contrasts.argmax(1))
    shape = candidates[np.arange(BLOCK), chosen]
    swap = (shape.sum(1) < background.sum(1)) == (rng.random(BLOCK) < BRIGHT_SHARE)
    shape, background = np.where(swap[:, None], background, shape), np.where(swap[:, None], shape, background)
    # The second color is farther from the shape's than the first, or a shape could vanish in a stripe of its color.
    step = uniform(rng, -0.5, 0.5, BLOCK, 3)
    away = np.where((step * (shape - background)).sum(1, keepdims=True) > 0, -step, step)
    return shape, background, np.clip(background + away, 0, 1)


def _draw_background(rng: np.random.Generator, first: Floats, second: Floats, size: int) -> Floats:
    """Draws backgrounds (B, 3, S, S) of two colors (B, 3): plain, a gradient, stripes or a woven pattern.

    Each is the product of two perpendicular waves; the number of cycles in the image makes the difference.
    """
    style = rng.integers(0, 4, BLOCK)
    cycles = uniform(rng, 2, 5, 2, BLOCK)
    cycles[:, style == 0] = 0
    cycles[:, style == 1] = np.array([[0.4], [0]])
    cycles[1, style == 2] = 0
    angle = uniform(rng, 0, 2 * np.pi, BLOCK)
    along, across = rotated_grid(np.full((BLOCK, 2), size / 2, dtype=np.float32), angle, size)
    turns = (2 * np.pi / size * cycles).astype(np.float32)[..., None, None]
    weight = 0.5 + 0.5 * np.sin(turns[0] * along) * np.cos(turns[1] * across)
    canvas = np.tile(first[:, :, None, None], (1, 1, size, size))
    paint(canvas, weight, second)
    return canvas


def _paint_strokes(rng: np.random.Generator, canvas: Floats, most: int, length: tuple[float, float]) -> None:
    """Paints up to `most` strokes per image over `canvas`, in place: lengths in pixels, one random color per image."""
    size = canvas.shape[-1]
    x, y = rotated_grid(uniform(rng, 0, size, most, BLOCK, 2), uniform(rng, 0, np.pi, most, BLOCK), size)
    half_length = uniform(rng, *length, most, BLOCK, 1, 1) / 2
    half_width = uniform(rng, 0.4, 0.8, most, BLOCK, 1, 1)
    masks = coverage(intersection(np.abs(x) - half_length, np.abs(y) - half_width))  # (most, B, S, S)
    masks *= np.arange(most)[:, None, None, None] < rng.integers(0, most + 1, BLOCK)[:, None, None]
    paint(canvas, masks.max(axis=0), uniform(rng, 0, 1, BLOCK, 3))


def _draw_block(seed: int, block: int, size: int) -> ShapeImages:
    """Draws images `block * BLOCK` to `(block + 1) * BLOCK - 1` with this seed."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block,)))
    kinds = len(SHAPE_NAMES)
    labels = rng.permuted(np.tile(np.arange(kinds, dtype=np.int64), (BLOCK // kinds, 1)), axis=1).ravel()
    radius = size * uniform(rng, *RADIUS_RANGE, BLOCK)
    margin = (radius + 1)[:, None]
    # The mean of two uniform draws: like the object of a photograph, the shape is usually near the center.
    center = margin + (size - 2 * margin) * uniform(rng, 0, 1, 2, BLOCK, 2).mean(axis=0)
    angle = uniform(rng, -MAX_TILT, MAX_TILT, BLOCK)
    masks = np.empty((BLOCK, size, size), dtype=np.float32)
    for label, name in enumerate(SHAPE_NAMES):
        chosen = labels == label
        masks[chosen] = shape_mask(name, center[chosen], radius[chosen], angle[chosen], size)

    color, first, second = _draw_colors(rng)
    canvas = _draw_background(rng, first, second, size)
    _paint_strokes(rng, canvas, MAX_LINES, (0.3 * size, size))
    paint(canvas, masks, color)
    # Specks lie in front of the shape, lines behind it: a line across a small ring would look like another shape.
    _paint_strokes(rng, canvas, MAX_SPECKS, (1, 4))
    canvas += uniform(rng, 0.01, 0.12, BLOCK, 1, 1, 1) * rng.standard_normal(canvas.shape, dtype=np.float32)
    images = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    return ShapeImages(images, labels, mask_boxes(masks))


def draw_shapes(num_images: int, seed: int, size: int = 32) -> ShapeImages:
    """Draws labeled images of one shape each, with random position, size, tilt, colors, background and clutter.

    Image i depends only on `seed`, `size` and i, so the first images don't depend on `num_images`. Every ten images,
    from a multiple of ten on, show each kind once, in random order.

    Args:
        num_images: N, the number of images, ≥ 1.
        seed: Seed of the images, ≥ 0.
        size: S, the side of the images in pixels, ≥ 24.

    Returns:
        `ShapeImages`: images (N, 3, S, S) uint8, labels (N,) and tight boxes (N, 4) int64.
    """
    check_range("num_images", num_images, num_images >= 1, "at least 1")
    check_range("seed", seed, seed >= 0, "at least 0")
    check_range("size", size, size >= MIN_SIZE, f"at least {MIN_SIZE} pixels, to tell the shapes apart")
    drawn = ShapeImages(
        images=np.empty((num_images, 3, size, size), dtype=np.uint8),
        labels=np.empty(num_images, dtype=np.int64),
        boxes=np.empty((num_images, 4), dtype=np.int64),
    )
    for start in range(0, num_images, BLOCK):
        block, stop = _draw_block(seed, start // BLOCK, size), min(start + BLOCK, num_images)
        drawn.images[start:stop] = block.images[: stop - start]
        drawn.labels[start:stop] = block.labels[: stop - start]
        drawn.boxes[start:stop] = block.boxes[: stop - start]
    return drawn
