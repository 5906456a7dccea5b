"""Drawn shapes: ten kinds of shape on varied backgrounds, an endless labelled image set that needs no download.

A shape is a signed distance: negative inside, positive outside, zero on the outline, measured in pixels. A pixel whose
centre lies at distance d from the outline is covered by clip(0.5 - d, 0, 1), which smooths the edge over one pixel;
an image is its layers painted over each other by coverage. The formulas follow Inigo Quilez, "2D distance functions",
https://iquilezles.org/articles/distfunctions2d/.

Shape letters: N images, B images of one block, S side of an image in pixels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]  # always float32, which numpy types cannot follow through arithmetic

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
    boxes: NDArray[np.int64]  # (N, 4), pixels x0, y0, x1, y1 from the top left; x1 and y1 lie just outside the shape


def _union(*distances: Floats) -> Floats:
    nearest = distances[0]
    for distance in distances[1:]:
        nearest = np.minimum(nearest, distance)
    return nearest


def _intersection(*distances: Floats) -> Floats:
    farthest = distances[0]
    for distance in distances[1:]:
        farthest = np.maximum(farthest, distance)
    return farthest


def _sides(x: Floats, y: Floats, count: int, inradius: float, first: float) -> list[Floats]:
    """Distances from the lines that hold a regular polygon's sides, the first normal at angle `first`."""
    normals = first + 2 * np.pi * np.arange(count) / count
    return [float(np.cos(normal)) * x + float(np.sin(normal)) * y - inradius for normal in normals]


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 0.9


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - 0.75) - 0.22


def _square(x: Floats, y: Floats) -> Floats:
    return _intersection(np.abs(x), np.abs(y)) - 0.7


def _triangle(x: Floats, y: Floats) -> Floats:
    return _intersection(*_sides(x, y, 3, inradius=0.5, first=np.pi / 2))


def _diamond(x: Floats, y: Floats) -> Floats:
    # Slender, because a diamond with equal diagonals is a square turned by 45 degrees.
    return (np.abs(x) + 0.55 * np.abs(y) - 0.55) / float(np.hypot(1.0, 0.55))


def _star(x: Floats, y: Floats) -> Floats:
    # A pentagram is the set of points beyond at most one of its five lines: the second largest distance is negative.
    lines = _sides(x, y, 5, inradius=float(np.cos(2 * np.pi / 5)), first=-np.pi / 2)
    second: Floats = np.sort(lines, axis=0)[-2]
    # Lines are too near beyond a tip this sharp: without the disc each tip would grow a faint hair.
    return _intersection(second, np.hypot(x, y) - 1)


def _cross(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return _intersection(x - 0.92, y - 0.92, _union(x, y) - 0.28)


def _heart(x: Floats, y: Floats) -> Floats:
    # A square on its corner, with a half disc on each of its two upper sides.
    half, x = 0.74, np.abs(x)
    y = y - 0.1 * half
    lobe = np.hypot(x - half / 2, y + half / 2) - half / 2**0.5
    return _union(lobe, (x + np.abs(y) - half) / 2**0.5)


def _crescent(x: Floats, y: Floats) -> Floats:
    return _intersection(np.hypot(x, y) - 0.95, 0.75 - np.hypot(x - 0.45, y))


def _arrow(x: Floats, y: Floats) -> Floats:
    y = np.abs(y)
    head = _intersection((0.75 * (x - 1) + 0.9 * y) / float(np.hypot(0.75, 0.9)), 0.1 - x)
    shaft = _intersection(np.abs(x + 0.4) - 0.55, y - 0.22)
    return _union(head, shaft)


# Every shape lies inside the unit disc, so that no angle turns it out of its radius; y points down.
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


def _rotated_grid(centre: Floats, angle: Floats, size: int) -> tuple[Floats, Floats]:
    """Coordinates (..., S, S) of the pixel centres, in pixels, on axes through `centre` (..., 2) turned by `angle`."""
    pixels = np.arange(size, dtype=np.float32) + np.float32(0.5)
    dx = (pixels - centre[..., 0, None])[..., None, :]  # (..., 1, S)
    dy = (pixels - centre[..., 1, None])[..., :, None]  # (..., S, 1)
    cos, sin = np.cos(angle)[..., None, None], np.sin(angle)[..., None, None]
    return cos * dx + sin * dy, cos * dy - sin * dx


def _coverage(distance: Floats) -> Floats:
    covered: Floats = np.clip(0.5 - distance, 0, 1)
    return covered


def shape_mask(kind: str, centre: ArrayLike, radius: ArrayLike, angle: ArrayLike, size: int) -> Floats:
    """Coverage of each pixel by one shape, or by one shape per image of a batch.

    Args:
        kind: one of `SHAPE_NAMES`.
        centre: (..., 2), x and y in pixels from the top left corner of the image; pixel (0, 0) has its centre at 0.5.
        radius: (...), of the disc that the shape fits into, in pixels, positive.
        angle: (...), in radians, clockwise as seen on the screen; 0 is upright.
        size: side of the image in pixels.

    Returns:
        (..., size, size) float32 in [0, 1]; a pixel belongs to the shape where it is at least 0.5.

    Raises:
        ValueError: if the kind is unknown, the size is below 1 or a radius is not positive.
    """
    if kind not in _DISTANCES:
        raise ValueError(f"kind is {kind!r}, but only {', '.join(SHAPE_NAMES)} can be drawn; choose one of these.")
    if size < 1:
        raise ValueError(f"size is {size}, but an image needs a side of at least 1 pixel; raise size.")
    radius = np.asarray(radius, dtype=np.float32)
    if not np.all(radius > 0):
        raise ValueError(f"the smallest radius is {radius.min()}, but radii are positive pixels; raise the radius.")
    x, y = _rotated_grid(np.asarray(centre, dtype=np.float32), np.asarray(angle, dtype=np.float32), size)
    scale = radius[..., None, None]
    return _coverage(_DISTANCES[kind](x / scale, y / scale) * scale)


def mask_boxes(masks: Floats) -> NDArray[np.int64]:
    """Tight half-open boxes (N, 4), as x0, y0, x1, y1, of the pixels with coverage (N, S, S) of at least 0.5."""
    inside = masks >= 0.5
    columns, rows = np.any(inside, axis=1), np.any(inside, axis=2)  # (N, S) each
    size = masks.shape[-1]
    ends = [size - np.argmax(np.flip(line, axis=1), axis=1) for line in (columns, rows)]
    return np.stack([columns.argmax(axis=1), rows.argmax(axis=1), *ends], axis=1).astype(np.int64)


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Floats:
    return low + (high - low) * rng.random(shape, dtype=np.float32)


def _paint(canvas: Floats, coverage: Floats, colour: Floats) -> None:
    """Paints `colour` (B, 3) over `canvas` (B, 3, S, S) where `coverage` (B, S, S) says so, in place."""
    canvas += coverage[:, None] * (colour[:, :, None, None] - canvas)


def _draw_colours(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Colours (B, 3) of the shape and the background, and the second colour of the background's pattern."""
    background = _uniform(rng, 0, 1, BLOCK, 3)
    candidates = _uniform(rng, 0, 1, BLOCK, 16, 3)
    contrasts = np.linalg.norm(candidates - background[:, None], axis=-1)  # (B, 16)
    # The first candidate with enough contrast, not the one with the most, or all shapes would be black or white.
    chosen = np.where((contrasts > MIN_CONTRAST).any(1), (contrasts > MIN_CONTRAST).argmax(1), contrasts.argmax(1))
    shape = candidates[np.arange(BLOCK), chosen]
    swap = (shape.sum(1) < background.sum(1)) == (rng.random(BLOCK) < BRIGHT_SHARE)
    shape, background = np.where(swap[:, None], background, shape), np.where(swap[:, None], shape, background)
    # The pattern leads away from the shape's colour, or a shape could vanish in a stripe of its own colour.
    step = _uniform(rng, -0.5, 0.5, BLOCK, 3)
    away = np.where((step * (shape - background)).sum(1, keepdims=True) > 0, -step, step)
    return shape, background, np.clip(background + away, 0, 1)


def _draw_background(rng: np.random.Generator, first: Floats, second: Floats, size: int) -> Floats:
    """Backgrounds (B, 3, S, S): plain, a gradient, stripes or a woven pattern of two colours (B, 3).

    All four are the product of two waves across each other; the number of cycles in the image tells them apart.
    """
    style = rng.integers(0, 4, BLOCK)
    cycles = _uniform(rng, 2, 5, 2, BLOCK)
    cycles[:, style == 0] = 0
    cycles[:, style == 1] = np.array([[0.4], [0]])
    cycles[1, style == 2] = 0
    angle = _uniform(rng, 0, 2 * np.pi, BLOCK)
    along, across = _rotated_grid(np.full((BLOCK, 2), size / 2, dtype=np.float32), angle, size)
    turns = (2 * np.pi / size * cycles).astype(np.float32)[..., None, None]
    weight = 0.5 + 0.5 * np.sin(turns[0] * along) * np.cos(turns[1] * across)
    canvas = np.tile(first[:, :, None, None], (1, 1, size, size))
    _paint(canvas, weight, second)
    return canvas


def _paint_strokes(rng: np.random.Generator, canvas: Floats, most: int, length: tuple[float, float]) -> None:
    """Paints up to `most` strokes an image, of a length in pixels and one random colour, over `canvas`, in place."""
    size = canvas.shape[-1]
    x, y = _rotated_grid(_uniform(rng, 0, size, most, BLOCK, 2), _uniform(rng, 0, np.pi, most, BLOCK), size)
    half_length = _uniform(rng, *length, most, BLOCK, 1, 1) / 2
    half_width = _uniform(rng, 0.4, 0.8, most, BLOCK, 1, 1)
    masks = _coverage(_intersection(np.abs(x) - half_length, np.abs(y) - half_width))  # (most, B, S, S)
    masks *= np.arange(most)[:, None, None, None] < rng.integers(0, most + 1, BLOCK)[:, None, None]
    _paint(canvas, masks.max(axis=0), _uniform(rng, 0, 1, BLOCK, 3))


def _draw_block(seed: int, block: int, size: int) -> ShapeImages:
    """Images `block * BLOCK` to `(block + 1) * BLOCK - 1` of the draw with this seed."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block,)))
    kinds = len(SHAPE_NAMES)
    labels = rng.permuted(np.tile(np.arange(kinds, dtype=np.int64), (BLOCK // kinds, 1)), axis=1).ravel()
    radius = size * _uniform(rng, *RADIUS_RANGE, BLOCK)
    margin = (radius + 1)[:, None]
    # The mean of two uniform draws: like the object of a photograph, the shape is near the middle more often than not.
    centre = margin + (size - 2 * margin) * _uniform(rng, 0, 1, 2, BLOCK, 2).mean(axis=0)
    angle = _uniform(rng, -MAX_TILT, MAX_TILT, BLOCK)
    masks = np.empty((BLOCK, size, size), dtype=np.float32)
    for label, name in enumerate(SHAPE_NAMES):
        chosen = labels == label
        masks[chosen] = shape_mask(name, centre[chosen], radius[chosen], angle[chosen], size)

    colour, first, second = _draw_colours(rng)
    canvas = _draw_background(rng, first, second, size)
    _paint_strokes(rng, canvas, MAX_LINES, (0.3 * size, size))
    _paint(canvas, masks, colour)
    # Specks lie in front of the shape, lines behind it: a line across a small ring would make it another shape.
    _paint_strokes(rng, canvas, MAX_SPECKS, (1, 4))
    canvas += _uniform(rng, 0.01, 0.12, BLOCK, 1, 1, 1) * rng.standard_normal(canvas.shape, dtype=np.float32)
    images = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    return ShapeImages(images, labels, mask_boxes(masks))


def draw_shapes(num_images: int, seed: int, size: int = 32) -> ShapeImages:
    """Draws labelled images of one shape each, with place, size, tilt, colours, background and clutter varying.

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
        raise ValueError(f"num_images is {num_images}, but at least 1 image must be drawn; raise num_images.")
    if seed < 0:
        raise ValueError(f"seed is {seed}, but seeds are integers from 0 on; choose one that is not negative.")
    if size < MIN_SIZE:
        raise ValueError(f"size is {size}, but shapes need at least {MIN_SIZE} pixels to be told apart; raise size.")
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
