"""Drawn shapes: repeatable, balanced, tightly boxed, varied, and ten distinguishable kinds."""

import time
from itertools import combinations

import numpy as np
import pytest

from datamodules.images.shape_drawing import (
    BLOCK,
    MIN_SIZE,
    RADIUS_RANGE,
    SHAPE_NAMES,
    ShapeImages,
    _draw_block,
    draw_shapes,
    mask_boxes,
    shape_mask,
)


@pytest.fixture(scope="module")
def drawn() -> ShapeImages:
    return draw_shapes(1000, seed=0)


def test_types_shapes_and_ranges(drawn: ShapeImages) -> None:
    assert drawn.images.dtype == np.uint8
    assert drawn.images.shape == (1000, 3, 32, 32)
    assert (drawn.images.min(), drawn.images.max()) == (0, 255)
    assert drawn.labels.dtype == np.int64
    assert drawn.labels.shape == (1000,)
    assert drawn.boxes.dtype == np.int64
    assert drawn.boxes.shape == (1000, 4)
    assert drawn.boxes.min() >= 0
    assert drawn.boxes.max() <= 32


@pytest.mark.parametrize("size", [MIN_SIZE, 28, 48])
def test_other_sizes_keep_the_shape_in_the_image(size: int) -> None:
    few = draw_shapes(100, seed=5, size=size)
    sides = few.boxes[:, 2:] - few.boxes[:, :2]
    assert few.images.shape == (100, 3, size, size)
    assert few.boxes.min() >= 1  # a margin of a pixel proves that no shape is cut off
    assert few.boxes.max() <= size - 1
    assert sides.max() <= 2 * RADIUS_RANGE[1] * size + 1


def test_same_seed_draws_the_same_and_another_seed_does_not(drawn: ShapeImages) -> None:
    again, other = draw_shapes(1000, seed=0), draw_shapes(1000, seed=1)
    np.testing.assert_array_equal(again.images, drawn.images)
    np.testing.assert_array_equal(again.labels, drawn.labels)
    np.testing.assert_array_equal(again.boxes, drawn.boxes)
    assert (other.images != drawn.images).mean() > 0.9
    assert (other.labels != drawn.labels).mean() > 0.8


def test_blocks_of_one_seed_differ(drawn: ShapeImages) -> None:
    assert len(np.unique(drawn.images.reshape(1000, -1), axis=0)) == 1000
    assert (drawn.labels[:BLOCK] != drawn.labels[BLOCK : 2 * BLOCK]).any()


@pytest.mark.parametrize("num_images", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 13])
def test_a_longer_draw_begins_with_the_shorter_one(drawn: ShapeImages, num_images: int) -> None:
    part = draw_shapes(num_images, seed=0)
    np.testing.assert_array_equal(part.images, drawn.images[:num_images])
    np.testing.assert_array_equal(part.labels, drawn.labels[:num_images])
    np.testing.assert_array_equal(part.boxes, drawn.boxes[:num_images])


def test_each_run_of_ten_holds_each_kind_once_in_random_order(drawn: ShapeImages) -> None:
    runs = drawn.labels.reshape(-1, 10)
    np.testing.assert_array_equal(np.sort(runs, axis=1), np.tile(np.arange(10), (100, 1)))
    assert len(np.unique(runs, axis=0)) == 100


@pytest.mark.parametrize("above", [0.0, 0.5])
@pytest.mark.parametrize("kind", SHAPE_NAMES)
def test_box_of_a_mask_holds_every_pixel_of_the_shape_and_touches_it_on_four_sides(kind: str, above: float) -> None:
    rng = np.random.default_rng(3)
    radius = rng.uniform(4, 12, 50)
    masks = shape_mask(kind, rng.uniform(12, 20, (50, 2)), radius, rng.uniform(-0.35, 0.35, 50), 32)
    for mask, box in zip(masks, mask_boxes(masks, above), strict=True):
        rows, columns = np.nonzero(mask > above)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_box_lies_where_the_shape_was_drawn(monkeypatch: pytest.MonkeyPatch, drawn: ShapeImages) -> None:
    """The same draw with invisible shapes differs from the real one inside the boxes only, and up to their edges."""

    def no_shape(kind: str, center: object, radius: object, angle: object, size: int) -> np.ndarray:
        return np.zeros((len(np.asarray(radius)), size, size), dtype=np.float32)

    monkeypatch.setattr("datamodules.images.shape_drawing.shape_mask", no_shape)
    empty = _draw_block(0, 0, 32)
    difference = np.abs(drawn.images[:BLOCK].astype(int) - empty.images).max(axis=1)
    for change, (x0, y0, x1, y1) in zip(difference, drawn.boxes[:BLOCK], strict=True):
        assert change[y0:y1, x0:x1].sum() == change.sum() > 0
        assert all(edge.max() > 0 for edge in (change[y0, x0:x1], change[y1 - 1, x0:x1]))
        assert all(edge.max() > 0 for edge in (change[y0:y1, x0], change[y0:y1, x1 - 1]))


def test_place_size_and_color_vary_for_every_kind(drawn: ShapeImages) -> None:
    centers = (drawn.boxes[:, :2] + drawn.boxes[:, 2:]) / 2
    heights = drawn.boxes[:, 3] - drawn.boxes[:, 1]
    corners = drawn.images[:, :, 0, 0].astype(float)
    middles = drawn.images[np.arange(1000), :, centers[:, 1].astype(int), centers[:, 0].astype(int)].astype(float)
    for label in range(10):
        chosen = drawn.labels == label
        assert (centers[chosen].std(axis=0) > 1.5).all()
        assert heights[chosen].max() > 1.8 * heights[chosen].min()
        assert (corners[chosen].std(axis=0) > 40).all()
        assert (middles[chosen].std(axis=0) > 40).all()


def test_color_is_independent_of_the_kind(drawn: ShapeImages) -> None:
    means = drawn.images.mean(axis=(2, 3))
    per_kind = np.stack([means[drawn.labels == label].mean(axis=0) for label in range(10)])
    assert per_kind.std(axis=0).max() < 0.2 * means.std(axis=0).min()


@pytest.mark.parametrize("radius", [RADIUS_RANGE[0] * 32, 12.0])
def test_every_two_kinds_differ_at_any_slight_tilt(radius: float) -> None:
    angles = np.linspace(-np.pi / 9, np.pi / 9, 9)
    masks = {name: shape_mask(name, np.full((9, 2), 16), np.full(9, radius), angles, 32) for name in SHAPE_NAMES}
    for first, second in combinations(SHAPE_NAMES, 2):
        a, b = masks[first][:, None], masks[second][None]  # every tilt of one with every tilt of the other
        overlap = np.minimum(a, b).sum(axis=(2, 3)) / np.maximum(a, b).sum(axis=(2, 3))
        assert overlap.max() < 0.85, f"{first} and {second}"


@pytest.mark.parametrize("kind", SHAPE_NAMES)
def test_mask_stays_in_its_disc_and_is_smooth_at_the_edge(kind: str) -> None:
    mask = shape_mask(kind, (15.3, 16.8), 9.0, 0.2, 32)
    y, x = np.mgrid[:32, :32] + 0.5
    assert mask.shape == (32, 32)
    assert mask.dtype == np.float32
    assert (mask.min(), mask.max()) == (0, 1)
    assert mask[np.hypot(x - 15.3, y - 16.8) > 10].max() == 0
    assert ((mask > 0) & (mask < 1)).sum() > 10


@pytest.mark.parametrize(
    ("kind", "area"),
    [
        ("circle", np.pi * 0.9**2),
        ("ring", np.pi * (0.97**2 - 0.53**2)),
        ("square", 1.4**2),
        ("triangle", 3 * np.sqrt(3) / 4),
        ("diamond", 2 * 0.55),
        ("star", 5 * np.sin(np.pi / 5) * np.cos(2 * np.pi / 5) / np.cos(np.pi / 5)),
        ("cross", 4 * 0.92 * 0.56 - 0.56**2),
        ("heart", 2 * 0.74**2 + np.pi * 0.74**2 / 2),
    ],
)
def test_covered_area_equals_the_formula_of_geometry(kind: str, area: float) -> None:
    covered = shape_mask(kind, (100, 100), 80, 0.3, 200).sum(dtype=np.float64)
    assert covered == pytest.approx(area * 80**2, rel=0.005)


def test_positive_angle_turns_clockwise_on_the_screen() -> None:
    x0, y0, x1, y1 = mask_boxes(shape_mask("arrow", [(16, 16)], [12], [np.pi / 2], 32))[0]
    tip = shape_mask("arrow", (16, 16), 12, np.pi / 2, 32)
    assert y1 - y0 > x1 - x0
    assert tip[24].sum() < tip[18].sum()  # the head narrows downwards


def test_a_linear_model_learns_a_little_and_far_from_all() -> None:
    """Ridge regression on pixels: above chance (0.1), and no more than linear models reach on photographs (0.4)."""
    data = draw_shapes(5000, seed=0)
    small = data.images.reshape(5000, 3, 16, 2, 16, 2).mean(axis=(3, 5)).reshape(5000, -1) / 255
    x, y = small - small[:4000].mean(axis=0), np.eye(10)[data.labels]
    weights = np.linalg.solve(x[:4000].T @ x[:4000] + 100 * np.eye(x.shape[1]), x[:4000].T @ y[:4000])
    accuracy = ((x[4000:] @ weights).argmax(axis=1) == data.labels[4000:]).mean()
    assert 0.15 < accuracy < 0.4


def test_thousands_of_images_a_second() -> None:
    start = time.process_time()
    draw_shapes(2000, seed=2)
    assert time.process_time() - start < 2  # about 0.3 s on one core; the rest is for busy machines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0, "seed": 0}, "num_images is 0; it must be at least 1"),
        ({"num_images": 1, "seed": -1}, "seed is -1; it must be at least 0"),
        ({"num_images": 1, "seed": 0, "size": MIN_SIZE - 1}, f"size is 23; it must be at least {MIN_SIZE}"),
    ],
)
def test_wrong_arguments_of_a_draw_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_shapes(**arguments)


@pytest.mark.parametrize(
    ("kind", "radius", "size", "message"),
    [
        ("blob", 5, 32, "kind is 'blob'; it must be one of circle, ring"),
        ("star", 0, 32, "smallest radius is 0.0"),
        ("star", 5, 0, "size is 0"),
    ],
)
def test_wrong_arguments_of_a_mask_are_named(kind: str, radius: float, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shape_mask(kind, (16, 16), radius, 0, size)
