"""Drawn scenes: positions and looks of the shapes, and that a longer draw begins with a shorter one."""

import numpy as np
import pytest

from datamodules.captions.shape_scenes import (
    BLOCK,
    COLORS,
    KINDS,
    RADII,
    SIDE,
    SIZES,
    Layout,
    Scenes,
    draw_layout,
    paint_scenes,
)


@pytest.fixture(scope="module")
def layout() -> Layout:
    return draw_layout(600, seed=0)


@pytest.fixture(scope="module")
def scenes(layout: Layout) -> Scenes:
    return paint_scenes(layout, seed=0)


def test_types_and_ranges(layout: Layout, scenes: Scenes) -> None:
    assert scenes.images.shape == (600, 3, SIDE, SIDE)
    assert scenes.images.dtype == np.uint8
    assert scenes.boxes.min() >= 1  # a margin of a pixel proves that no shape is cut off
    assert scenes.boxes.max() <= SIDE - 1
    for values, names in ((layout.kinds, KINDS), (layout.colors, COLORS), (layout.sizes, SIZES)):
        counts = np.bincount(values.ravel())
        assert len(counts) == len(names)
        assert abs(counts / counts.sum() - 1 / len(names)).max() < 0.05
    assert 0.4 < layout.upright.mean() < 0.6


def test_the_two_shapes_always_differ(layout: Layout) -> None:
    sorts = np.stack([layout.kinds, layout.colors, layout.sizes], 2)
    assert (sorts[:, 0] != sorts[:, 1]).any(1).all()


def test_boxes_do_not_overlap_along_the_named_axis_and_it_clearly_dominates(layout: Layout, scenes: Scenes) -> None:
    first, second = scenes.boxes[:, 0], scenes.boxes[:, 1]
    axis = layout.upright.astype(int)
    rows = np.arange(len(axis))
    assert (first[rows, 2 + axis] < second[rows, axis]).all()
    offset = np.abs(layout.centers[:, 1] - layout.centers[:, 0])
    assert (offset[rows, axis] >= 2 * offset[rows, 1 - axis] - 1e-3).all()


def test_large_shapes_are_clearly_larger_than_small_ones_of_their_kind(layout: Layout, scenes: Scenes) -> None:
    sides = (scenes.boxes[..., 2:] - scenes.boxes[..., :2]).max(-1)
    for kind in range(len(KINDS)):
        small, large = (sides[(layout.kinds == kind) & (layout.sizes == size)] for size in (0, 1))
        assert small.max() + 3 <= large.min()


def test_the_middle_of_a_solid_shape_has_its_color_and_no_other(layout: Layout, scenes: Scenes) -> None:
    """The nearest color of the palette to the mean of the innermost pixels is the one that the layout names."""
    palette = np.array(list(COLORS.values()))
    solid = np.argwhere((layout.kinds == KINDS.index("circle")) | (layout.kinds == KINDS.index("square")))
    assert len(solid) > 300
    for scene, shape in solid:
        x, y = layout.centers[scene, shape].astype(int)
        seen = scenes.images[scene, :, y - 1 : y + 2, x - 1 : x + 2].mean((1, 2)) / 255
        assert np.linalg.norm(palette - seen, axis=1).argmin() == layout.colors[scene, shape]


def test_the_background_has_no_color_of_the_palette(scenes: Scenes) -> None:
    corners = scenes.images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].transpose(0, 2, 1).reshape(-1, 3) / 255
    distances = np.linalg.norm(corners[:, None] - np.array(list(COLORS.values())), axis=2)
    assert distances.min() > 0.25


@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_a_longer_draw_begins_with_the_shorter_one(layout: Layout, scenes: Scenes, count: int) -> None:
    part = draw_layout(count, seed=0)
    for ours, whole in zip(part, layout, strict=True):
        np.testing.assert_array_equal(ours, whole[:count])
    painted = paint_scenes(part, seed=0)
    np.testing.assert_array_equal(painted.images, scenes.images[:count])
    np.testing.assert_array_equal(painted.boxes, scenes.boxes[:count])


def test_another_seed_draws_other_scenes(layout: Layout, scenes: Scenes) -> None:
    other = paint_scenes(draw_layout(64, seed=1), seed=1)
    assert (other.images != scenes.images[:64]).mean() > 0.9
    assert (draw_layout(64, seed=1).kinds != layout.kinds[:64]).mean() > 0.7


def test_radii_of_the_sizes_lie_apart() -> None:
    assert RADII[1][0] > 1.5 * RADII[0][1]
