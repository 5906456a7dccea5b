"""Draws scenes of two shapes that one sentence describes completely: kind, color and size of each, and their relation.

Layout and pixels come from two random streams, so that the content of the scenes is known without painting them. The
two shapes lie clearly beside or above each other: along one axis they don't overlap, and their centers differ at least
twice as much along it as along the other.

Shapes: N scenes, B scenes of one block, S side of an image in pixels; the 2 are the shapes of a scene.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.images.shape_drawing import paint, uniform
from datamodules.images.shape_masks import Floats, mask_boxes, rotated_grid, shape_mask

KINDS = ("circle", "square", "triangle", "cross", "ring", "heart")  # those distinguishable at a radius of 5 pixels
COLORS = {
    "red": (0.90, 0.10, 0.10),
    "green": (0.10, 0.75, 0.15),
    "blue": (0.15, 0.35, 1.00),
    "yellow": (1.00, 0.90, 0.10),
    "purple": (0.70, 0.20, 0.85),
    "white": (0.97, 0.97, 0.97),
}
SIZES = ("small", "large")
SIDE = 48  # of an image in pixels
RADII = (
    (4.5, 5.5),
    (8.5, 10.0),
)  # in pixels, of small and of large shapes: no small one is half as wide as a large one
MAX_TILT = np.pi / 18
BLOCK = 32  # scenes from one random stream
_GAP, _MARGIN = 2.0, 1.0  # pixels between the discs of the two shapes, and around them
_JITTER, _NOISE = 0.05, 0.03  # largest change of a color's channels, and standard deviation of a pixel's


class Layout(NamedTuple):
    """Content of N scenes, the left or upper shape first."""

    kinds: NDArray[np.int64]  # (N, 2), index into KINDS
    colors: NDArray[np.int64]  # (N, 2), index into COLORS
    sizes: NDArray[np.int64]  # (N, 2), index into SIZES
    upright: NDArray[np.bool_]  # (N,), whether the first is above the second instead of left of it
    centers: Floats  # (N, 2, 2), x and y in pixels
    radii: Floats  # (N, 2), of the discs that the shapes fit into, in pixels
    angles: Floats  # (N, 2), in radians


class Scenes(NamedTuple):
    """Pixels of N scenes and bounding boxes of their shapes."""

    images: NDArray[np.uint8]  # (N, 3, S, S), RGB
    boxes: NDArray[np.int64]  # (N, 2, 4), x0, y0, x1, y1 of the pixels that a shape covers by half; x1, y1 just outside


def draw_layout(num_scenes: int, seed: int) -> Layout:
    """Draws the layout of scenes; scene i depends only on `seed` and i, so that more scenes begin with the same ones.

    Args:
        num_scenes: Number of scenes N, ≥ 1.
        seed: Seed of the layout, ≥ 0; different seeds give different scenes.
    """
    blocks = [_draw_block(seed, block) for block in range(-(-num_scenes // BLOCK))]
    return Layout._make(np.concatenate(parts)[:num_scenes] for parts in zip(*blocks, strict=True))


def _draw_block(seed: int, block: int) -> Layout:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block, 0)))
    # With two identical shapes, the order in the sentence would be ambiguous.
    num_sorts = len(KINDS) * len(COLORS) * len(SIZES)
    first = rng.integers(0, num_sorts, BLOCK)
    second = (first + rng.integers(1, num_sorts, BLOCK)) % num_sorts
    sorts = np.stack([first, second], 1)  # (B, 2)
    sizes, colors, kinds = np.unravel_index(sorts, (len(SIZES), len(COLORS), len(KINDS)))
    bounds = np.array(RADII, dtype=np.float32)[sizes]  # (B, 2, 2)
    radii = bounds[..., 0] + (bounds[..., 1] - bounds[..., 0]) * uniform(rng, 0, 1, BLOCK, 2)
    low, high = radii + _MARGIN, SIDE - radii - _MARGIN  # where the centers may lie, (B, 2) each
    least = radii.sum(1) + _GAP
    distance = least + (high[:, 1] - low[:, 0] - least) * uniform(rng, 0, 1, BLOCK)
    along = low[:, 0] + (high[:, 1] - distance - low[:, 0]) * uniform(rng, 0, 1, BLOCK)
    across = low[:, 0] + (high[:, 0] - low[:, 0]) * uniform(rng, 0, 1, BLOCK)
    nearest = np.maximum(low[:, 1], across - distance / 2)
    farthest = np.minimum(high[:, 1], across + distance / 2)
    across_second = nearest + (farthest - nearest) * uniform(rng, 0, 1, BLOCK)
    centers = np.stack([np.stack([along, across], 1), np.stack([along + distance, across_second], 1)], 1)  # (B, 2, 2)
    upright = rng.random(BLOCK) < 0.5
    centers = np.where(upright[:, None, None], centers[..., ::-1], centers).astype(np.float32)
    angles = uniform(rng, -MAX_TILT, MAX_TILT, BLOCK, 2)
    return Layout(kinds, colors, sizes, upright, centers, radii, angles)


def paint_scenes(layout: Layout, seed: int) -> Scenes:
    """Paints the scenes that `draw_layout` returned for the same seed."""
    count = len(layout.upright)
    painted = Scenes(np.empty((count, 3, SIDE, SIDE), np.uint8), np.empty((count, 2, 4), np.int64))
    for start in range(0, count, BLOCK):
        block = Layout._make(part[start : start + BLOCK] for part in layout)
        images, boxes = _paint_block(block, seed, start // BLOCK)
        painted.images[start : start + BLOCK] = images
        painted.boxes[start : start + BLOCK] = boxes
    return painted


def _paint_block(layout: Layout, seed: int, block: int) -> Scenes:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block, 1)))
    count = len(layout.upright)
    # Drawn for a whole block even if it is not full, so that a scene does not depend on the number of scenes.
    dark = uniform(rng, 0.05, 0.35, BLOCK, 1, 1, 1) + uniform(rng, -0.05, 0.05, BLOCK, 3, 1, 1)
    slope = uniform(rng, -0.15, 0.15, BLOCK)[:, None, None, None]
    direction = uniform(rng, 0, 2 * np.pi, BLOCK)
    along, _ = rotated_grid(np.full((BLOCK, 2), SIDE / 2, dtype=np.float32), direction, SIDE)  # (B, S, S)
    canvas = dark + slope * along[:, None] / SIDE
    palette = np.array(list(COLORS.values()), dtype=np.float32)
    jitter = uniform(rng, -_JITTER, _JITTER, BLOCK, 2, 3)
    noise = _NOISE * rng.standard_normal(canvas.shape, dtype=np.float32)
    canvas = canvas[:count]
    boxes = np.empty((count, 2, 4), np.int64)
    for i in range(2):
        masks = np.empty((count, SIDE, SIDE), np.float32)
        for kind, name in enumerate(KINDS):
            chosen = layout.kinds[:, i] == kind
            if chosen.any():
                pose = layout.centers[chosen, i], layout.radii[chosen, i], layout.angles[chosen, i]
                masks[chosen] = shape_mask(name, *pose, SIDE)
        paint(canvas, masks, palette[layout.colors[:, i]] + jitter[:count, i])
        boxes[:, i] = mask_boxes(masks, 0.5)
    canvas += noise[:count]
    canvas *= 255
    return Scenes(np.clip(np.rint(canvas, out=canvas), 0, 255, out=canvas).astype(np.uint8), boxes)
