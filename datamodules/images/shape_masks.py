"""Masks of ten kinds of shape: how much of each pixel a shape covers.

A shape is a signed distance function: negative inside, positive outside, zero on the outline, in pixels. A pixel whose
center is at distance d from the outline has coverage clip(0.5 − d, 0, 1), which antialiases the edge.
The formulas follow Inigo Quilez, "2D distance functions", https://iquilezles.org/articles/distfunctions2d/.

Shapes: N images, S pixels of an image's side.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError
from common.ranges import check_range

Floats = NDArray[np.floating[Any]]  # always float32; numpy's types lose that in arithmetic


def _union(*distances: Floats) -> Floats:
    nearest = distances[0]
    for distance in distances[1:]:
        nearest = np.minimum(nearest, distance)
    return nearest


def intersection(*distances: Floats) -> Floats:
    """Signed distance from the intersection of shapes."""
    farthest = distances[0]
    for distance in distances[1:]:
        farthest = np.maximum(farthest, distance)
    return farthest


def _sides(x: Floats, y: Floats, count: int, inradius: float, first: float) -> list[Floats]:
    """Signed distances from the lines through a regular polygon's sides, the first normal at angle `first`."""
    normals = first + 2 * np.pi * np.arange(count) / count
    return [float(np.cos(normal)) * x + float(np.sin(normal)) * y - inradius for normal in normals]


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 0.9


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - 0.75) - 0.22


def _square(x: Floats, y: Floats) -> Floats:
    return intersection(np.abs(x), np.abs(y)) - 0.7


def _triangle(x: Floats, y: Floats) -> Floats:
    return intersection(*_sides(x, y, 3, inradius=0.5, first=np.pi / 2))


def _diamond(x: Floats, y: Floats) -> Floats:
    # Slender, because a diamond with equal diagonals is a square rotated by 45 degrees.
    return (np.abs(x) + 0.55 * np.abs(y) - 0.55) / float(np.hypot(1.0, 0.55))


def _star(x: Floats, y: Floats) -> Floats:
    # A pentagram is the set of points beyond at most one of its five lines: the second largest distance is negative.
    lines = _sides(x, y, 5, inradius=float(np.cos(2 * np.pi / 5)), first=-np.pi / 2)
    second: Floats = np.sort(lines, axis=0)[-2]
    # Beyond a tip this sharp the lines are close together: without the disc a faint hair would extend each tip.
    return intersection(second, np.hypot(x, y) - 1)


def _cross(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return intersection(x - 0.92, y - 0.92, _union(x, y) - 0.28)


def _heart(x: Floats, y: Floats) -> Floats:
    # A square on its corner, with a half disc on each of its two upper sides.
    half, x = 0.74, np.abs(x)
    y = y - 0.1 * half
    lobe = np.hypot(x - half / 2, y + half / 2) - half / 2**0.5
    return _union(lobe, (x + np.abs(y) - half) / 2**0.5)


def _crescent(x: Floats, y: Floats) -> Floats:
    return intersection(np.hypot(x, y) - 0.95, 0.75 - np.hypot(x - 0.45, y))


def _arrow(x: Floats, y: Floats) -> Floats:
    y = np.abs(y)
    head = intersection((0.75 * (x - 1) + 0.9 * y) / float(np.hypot(0.75, 0.9)), 0.1 - x)
    shaft = intersection(np.abs(x + 0.4) - 0.55, y - 0.22)
    return _union(head, shaft)


# Every shape lies inside the unit disc, so that no rotation moves it out of its radius; y points down.
_DISTANCES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "crescent": _crescent,
    "arrow": _arrow,
}
SHAPE_NAMES: tuple[str, ...] = tuple(_DISTANCES)


def rotated_grid(center: Floats, angle: Floats, size: int) -> tuple[Floats, Floats]:
    """Coordinates (..., S, S) of the pixel centers, in pixels, on axes through `center` (..., 2) rotated by `angle`."""
    pixels = np.arange(size, dtype=np.float32) + np.float32(0.5)
    dx = (pixels - center[..., 0, None])[..., None, :]  # (..., 1, S)
    dy = (pixels - center[..., 1, None])[..., :, None]  # (..., S, 1)
    cos, sin = np.cos(angle)[..., None, None], np.sin(angle)[..., None, None]
    return cos * dx + sin * dy, cos * dy - sin * dx


def coverage(distance: Floats) -> Floats:
    """Fraction of each pixel, in [0, 1], that a shape at this signed distance in pixels covers."""
    covered: Floats = np.clip(0.5 - distance, 0, 1)
    return covered


def shape_mask(kind: str, center: ArrayLike, radius: ArrayLike, angle: ArrayLike, size: int) -> Floats:
    """Computes the coverage of each pixel by one shape, or by one shape per image of a batch.

    Args:
        kind: Kind of the shape, one of `SHAPE_NAMES`.
        center: Center, x and y in pixels from the top left corner of the image, (..., 2); pixel (0, 0) is at 0.5.
        radius: Radius in pixels of the disc that contains the shape, > 0, (...).
        angle: Angle in radians, clockwise on the screen; 0 is upright, (...).
        size: S, the side of the image in pixels, ≥ 1.

    Returns:
        (..., S, S) float32 in [0, 1]; a pixel belongs to the shape where it is at least 0.5.

    Raises:
        ValueError: If the kind is unknown, the size is below 1 or a radius is not positive.
    """
    if kind not in _DISTANCES:
        raise UserError(f"kind is {kind!r}; it must be one of {', '.join(SHAPE_NAMES)}.")
    check_range("size", size, size >= 1, "at least 1 pixel")
    radius = np.asarray(radius, dtype=np.float32)
    check_range("the smallest radius", radius.min(), bool(np.all(radius > 0)), "positive")
    x, y = rotated_grid(np.asarray(center, dtype=np.float32), np.asarray(angle, dtype=np.float32), size)
    scale = radius[..., None, None]
    return coverage(_DISTANCES[kind](x / scale, y / scale) * scale)


def mask_boxes(masks: Floats, above: float = 0.0) -> NDArray[np.int64]:
    """Tight half-open boxes (N, 4), as x0, y0, x1, y1, of the pixels whose coverage (N, S, S) exceeds `above`."""
    inside = masks > above
    columns, rows = np.any(inside, axis=1), np.any(inside, axis=2)  # (N, S) each
    size = masks.shape[-1]
    ends = [size - np.argmax(np.flip(line, axis=1), axis=1) for line in (columns, rows)]
    return np.stack([columns.argmax(axis=1), rows.argmax(axis=1), *ends], axis=1).astype(np.int64)
