"""Drawn shapes: ten kinds of shape on varied backgrounds, an endless labeled image set that needs no download.

An image is its layers painted over each other by coverage; `shape_masks` says how much of a pixel a shape covers.

Shape letters: N images, B images of one block, S side of an image in pixels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from datamodules.images.shape_masks import (
    SHAPE_NAMES,
    Floats,
    coverage,
    intersection,
    mask_boxes,
    rotated_grid,
    shape_mask,
)

BLOCK = 50  # images from one random stream; a multiple of ten, and small enough for its arrays to stay in cache
MIN_SIZE = 24  # the smallest arrow's shaft is 0.07 of the side wide: here already less than two pixels
RADIUS_RANGE = (0.16, 0.38)  # of the image's side
MAX_TILT = np.pi / 9  # beyond about 20 degrees a square begins to read as a diamond
MIN_CONTRAST = 0.3  # distance of shape and background in RGB, of at most sqrt(3)
BRIGHT_SHARE = 0.85  # as in photographs, object and background are not symmetric: linear models find a little to learn
MAX_LINES, MAX_SPECKS = 2, 4


class ShapeImages(NamedTuple):
    """Images with the kind and the place of the shape in each of them."""

    images: NDArray[np.uint8]  # (N, 3, S, S), RGB, 0 to 255
    labels: NDArray[np.int64]  # (N,), index into SHAPE_NAMES
    boxes: NDArray[np.int64]  # (N, 4), x0, y0, x1, y1 of all pixels that the shape colors; x1 and y1 lie just outside


def uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Floats:
    return low + (high - low) * rng.random(shape, dtype=np.float32)


def paint(canvas: Floats, coverage: Floats, color: Floats) -> None:
    """Paints `color` (B, 3) over `canvas` (B, 3, S, S) where `coverage` (B, S, S) says so, in place."""
    canvas += coverage[:, None] * (color[:, :, None, None] - canvas)


def _draw_colors(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Colors (B, 3) of the shape and the background, and the second color of the background's pattern."""
    background = uniform(rng, 0, 1, BLOCK, 3)
    candidates = uniform(rng, 0, 1, BLOCK, 16, 3)
    contrasts = np.linalg.norm(candidates - background[:, None], axis=-1)  # (B, 16)
    # The first candidate with enough contrast, not the one with the most, or all shapes would be black or white.
    chosen = np.where((contrasts > MIN_CONTRAST).any(1), (contrasts > MIN_CONTRAST).argmax(1), contrasts.argmax(1))
    shape = candidates[np.arange(BLOCK), chosen]
    swap = (shape.sum(1) < background.sum(1)) == (rng.random(BLOCK) < BRIGHT_SHARE)
    shape, background = np.where(swap[:, None], background, shape), np.where(swap[:, None], shape, background)
    # The pattern leads away from the shape's color, or a shape could vanish in a stripe of its own color.
    step = uniform(rng, -0.5, 0.5, BLOCK, 3)
    away = np.where((step * (shape - background)).sum(1, keepdims=True) > 0, -step, step)
    return shape, background, np.clip(background + away, 0, 1)


def _draw_background(rng: np.random.Generator, first: Floats, second: Floats, size: int) -> Floats:
    """Backgrounds (B, 3, S, S): plain, a gradient, stripes or a woven pattern of two colors (B, 3).

    All four are the product of two waves across each other; the number of cycles in the image tells them apart.
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
    """Paints up to `most` strokes an image, of a length in pixels and one random color, over `canvas`, in place."""
    size = canvas.shape[-1]
    x, y = rotated_grid(uniform(rng, 0, size, most, BLOCK, 2), uniform(rng, 0, np.pi, most, BLOCK), size)
    half_length = uniform(rng, *length, most, BLOCK, 1, 1) / 2
    half_width = uniform(rng, 0.4, 0.8, most, BLOCK, 1, 1)
    masks = coverage(intersection(np.abs(x) - half_length, np.abs(y) - half_width))  # (most, B, S, S)
    masks *= np.arange(most)[:, None, None, None] < rng.integers(0, most + 1, BLOCK)[:, None, None]
    paint(canvas, masks.max(axis=0), uniform(rng, 0, 1, BLOCK, 3))


def _draw_block(seed: int, block: int, size: int) -> ShapeImages:
    """Images `block * BLOCK` to `(block + 1) * BLOCK - 1` of the draw with this seed."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block,)))
    kinds = len(SHAPE_NAMES)
    labels = rng.permuted(np.tile(np.arange(kinds, dtype=np.int64), (BLOCK // kinds, 1)), axis=1).ravel()
    radius = size * uniform(rng, *RADIUS_RANGE, BLOCK)
    margin = (radius + 1)[:, None]
    # The mean of two uniform draws: like the object of a photograph, the shape is near the middle more often than not.
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
    # Specks lie in front of the shape, lines behind it: a line across a small ring would make it another shape.
    _paint_strokes(rng, canvas, MAX_SPECKS, (1, 4))
    canvas += uniform(rng, 0.01, 0.12, BLOCK, 1, 1, 1) * rng.standard_normal(canvas.shape, dtype=np.float32)
    images = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    return ShapeImages(images, labels, mask_boxes(masks))


def draw_shapes(num_images: int, seed: int, size: int = 32) -> ShapeImages:
    """Draws labeled images of one shape each, with place, size, tilt, colors, background and clutter varying.

    Image i depends on `seed`, `size` and i alone, so a longer draw begins with the images of a shorter one. Each run
    of ten images from a multiple of ten on holds each kind once, in random order.

    Args:
        num_images: how many images, at least 1.
        seed: at least 0; different seeds draw different images.
        size: side of the images in pixels, at least `MIN_SIZE`.

    Returns:
        `ShapeImages`: images (N, 3, S, S) uint8, labels (N,) and tight boxes (N, 4) int64.

    Raises:
        ValueError: if an argument is below its least value.
    """
    if num_images < 1:
        raise UserError(f"num_images is {num_images}, but at least 1 image must be drawn; raise num_images.")
    if seed < 0:
        raise UserError(f"seed is {seed}, but seeds are integers from 0 on; choose one that is not negative.")
    if size < MIN_SIZE:
        raise UserError(f"size is {size}, but shapes need at least {MIN_SIZE} pixels to be told apart; raise size.")
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
