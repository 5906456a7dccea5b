"""Batched augmentation against loops over single images, and the adapter that makes albumentations repeatable."""

import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules import Digits
from datamodules.images.augmentation import Albumentations, AugmentedImages, WindowStore, cutout, rotate
from datamodules.loader import Batch

Pipeline = list[str | dict[str, Any]]


def images_of(count: int, shape: tuple[int, int, int] = (3, 6, 5), seed: int = 0) -> Tensor:
    return torch.randint(1, 256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def batch_of(indices: Tensor, seed: int = 0) -> Batch:
    return Batch(indices, seed, len(indices), 0)


class Draws(Batch):
    """A batch whose draws are given: the uniform numbers in [0, 1) and the integers, call after call."""

    def __init__(self, count: int, rand: list[float] | None = None, integers: list[list[int]] | None = None) -> None:
        super().__init__(torch.arange(count), 0, count, 0)
        object.__setattr__(self, "given", (rand, list(integers or [])))

    def rand(self) -> Tensor:
        return torch.tensor(self.given[0])  # type: ignore[attr-defined]

    def randint(self, high: int) -> Tensor:
        draws = torch.tensor(self.given[1].pop(0))  # type: ignore[attr-defined]
        assert draws.min() >= 0
        assert draws.max() < high
        return draws


# ------------------------------------------------------------------------------------------------------ crop and flip


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_gather_equals_a_loop_over_single_images(padding: int, flip: bool) -> None:
    images = images_of(9)
    indices = torch.tensor([8, 0, 3, 3, 3, 1, 7, 5])
    ours = WindowStore(images, padding, flip).gather(batch_of(indices, seed=5))

    draws = batch_of(indices, seed=5)
    mirrored = draws.randint(2) if flip else torch.zeros(8, dtype=torch.int64)
    rows, columns = (draws.randint(2 * padding + 1) if padding else torch.zeros(8, dtype=torch.int64) for _ in range(2))
    for i, index in enumerate(indices):
        image = np.pad(images[index].numpy(), ((0, 0), (padding, padding), (padding, padding)))
        image = image[:, :, ::-1] if mirrored[i] else image
        top, left = int(rows[i]), int(columns[i])
        np.testing.assert_array_equal(ours[i], image[:, top : top + 6, left : left + 5])
    assert ours.dtype == torch.uint8


def test_every_offset_and_flip_is_equally_frequent() -> None:
    image = torch.arange(1, 31, dtype=torch.uint8).reshape(1, 1, 6, 5)
    store, count = WindowStore(image, 2, flip=True), 20_000
    views = store.gather(batch_of(torch.zeros(count, dtype=torch.int64))).flatten(1)
    padded = F.pad(image, (2,) * 4)
    counts = []
    for side in (padded, padded.flip(-1)):
        for top in range(5):
            for left in range(5):
                window = side[0, 0, top : top + 6, left : left + 5].flatten()
                counts.append(int((views == window).all(1).sum()))
    assert sum(counts) == count
    assert max(abs(n - count / 50) for n in counts) < 5 * math.sqrt(count / 50)


def test_without_padding_and_flip_images_are_unchanged() -> None:
    images = images_of(5)
    assert torch.equal(WindowStore(images, 0, False).gather(batch_of(torch.tensor([4, 4, 0]))), images[[4, 4, 0]])


def test_padded_images_have_a_border_of_zeros() -> None:
    images = images_of(3)
    assert torch.equal(WindowStore(images, 2, False).padded(torch.tensor([2, 0])), F.pad(images[[2, 0]], (2,) * 4))


# ------------------------------------------------------------------------------------------------------------- cutout


@pytest.mark.parametrize("side", [1, 2, 3, 4, 9])
def test_cutout_equals_a_loop_at_every_position_borders_included(side: int) -> None:
    height, width = 6, 5
    rows, columns = (
        grid.flatten().tolist() for grid in torch.meshgrid(torch.arange(6), torch.arange(5), indexing="ij")
    )
    images, fill = images_of(30), torch.tensor([10.0, 20.0, 30.0])
    kept = images.clone()
    ours = cutout(images, side, fill, Draws(30, integers=[rows, columns]))
    assert torch.equal(images, kept)
    assert ours.dtype == torch.uint8
    for i in range(30):
        expected = images[i].clone()
        for y in range(height):
            for x in range(width):
                dy, dx = y - (rows[i] - side // 2), x - (columns[i] - side // 2)
                if 0 <= dy < side and 0 <= dx < side:
                    expected[:, y, x] = fill.to(torch.uint8)
        assert torch.equal(ours[i], expected)


def test_cutout_is_centered_anywhere_in_the_image() -> None:
    images = torch.full((20_000, 1, 4, 5), 200, dtype=torch.uint8)
    blanked = (cutout(images, 1, torch.zeros(1), batch_of(torch.arange(20_000))) == 0).sum((0, 1))
    assert blanked.sum() == 20_000
    assert (blanked - 1000).abs().max() < 5 * math.sqrt(1000)


# ----------------------------------------------------------------------------------------------------------- rotation


@pytest.mark.parametrize("shape", [(3, 6, 6), (1, 7, 7), (3, 6, 5)])
def test_rotation_by_zero_changes_nothing(shape: tuple[int, int, int]) -> None:
    images = images_of(4, shape)
    assert torch.equal(rotate(images, 90.0, Draws(4, rand=[0.5] * 4)), images)


@pytest.mark.parametrize("side", [6, 7])
def test_rotation_by_right_angles_is_a_quarter_turn(side: int) -> None:
    images = images_of(3, (3, side, side))
    left, half, right = rotate(images, 180.0, Draws(3, rand=[0.25, 0.0, 0.75]))
    # A positive angle turns counterclockwise, as in mathematics.
    for turned, image, quarters in ((left, images[0], -1), (half, images[1], 2), (right, images[2], 1)):
        assert (turned.int() - torch.rot90(image, quarters, (1, 2)).int()).abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 50), (50, 30)])
@pytest.mark.parametrize("angle", [-50.0, 20.0, 75.0])
def test_rotation_keeps_lengths_at_any_aspect_ratio(height: int, width: int, angle: float) -> None:
    """A dot at a known position moves as the rotation matrix says."""
    dot = np.array([6.0, -8.0])  # right of and above the center, in pixels
    y, x = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    blob = 255 * np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / 8)
    image = torch.from_numpy(blob.astype(np.uint8))[None, None]
    turned = rotate(image, 90.0, Draws(1, rand=[0.5 + angle / 180]))[0, 0].double().numpy()
    found = np.array([(turned * x).sum(), (turned * y).sum()]) / turned.sum()
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # Counterclockwise on a screen whose y points down.
    np.testing.assert_allclose(found, [cos * dot[0] + sin * dot[1], -sin * dot[0] + cos * dot[1]], atol=0.1)


def test_angles_fill_the_range_and_differ_within_a_batch() -> None:
    images = torch.zeros(300, 1, 21, 21, dtype=torch.uint8)
    images[:, :, :8, 10] = 255  # a hand that points up
    turned = rotate(images, 30.0, batch_of(torch.arange(300)))[:, 0].double()
    y, x = torch.meshgrid(torch.arange(21.0) - 10, torch.arange(21.0) - 10, indexing="ij")
    angles = torch.atan2((turned * x).sum((1, 2)), -(turned * y).sum((1, 2))).rad2deg()
    assert angles.abs().max() < 31
    assert angles.min() < -28
    assert angles.max() > 28
    assert angles.mean().abs() < 5 * 30 / math.sqrt(3) / math.sqrt(300)


# ------------------------------------------------------------------------------------------------------ albumentations

SHIFT: Pipeline = [{"RandomBrightnessContrast": {"brightness_limit": 0.5, "contrast_limit": 0.5, "p": 1.0}}]
CROP: Pipeline = [{"HorizontalFlip": {"p": 0.5}}, {"RandomCrop": {"height": 6, "width": 5}}]


def test_every_image_of_a_batch_has_its_own_draws_and_a_seed_repeats_them() -> None:
    images = torch.full((16, 3, 8, 8), 90, dtype=torch.uint8)
    transform = Albumentations(SHIFT)
    first = transform(images, batch_of(torch.arange(16), seed=1))
    assert len(first[:, 0, 0, 0].unique()) > 8
    assert torch.equal(transform(images, batch_of(torch.arange(16), seed=1)), first)
    assert torch.equal(Albumentations(SHIFT)(images, batch_of(torch.arange(16), seed=1)), first)
    assert not torch.equal(transform(images, batch_of(torch.arange(16), seed=2)), first)


def test_ranks_draw_differently() -> None:
    images = torch.full((8, 1, 8, 8), 90, dtype=torch.uint8)
    transform = Albumentations(SHIFT)
    ranks = [transform(images, Batch(torch.arange(8), 1, 16, start)) for start in (0, 8)]
    assert not torch.equal(*ranks)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_keep_channels_positions_and_order(channels: int) -> None:
    images = images_of(4, (channels, 6, 5))
    flipped = Albumentations([{"HorizontalFlip": {"p": 1.0}}])(images, batch_of(torch.arange(4)))
    assert torch.equal(flipped, images.flip(-1))
    cropped = Albumentations(CROP)(F.pad(images, (2,) * 4), batch_of(torch.arange(4)))
    assert cropped.shape == images.shape


@pytest.mark.parametrize("num_workers", [0, 2])
def test_draws_differ_between_batches_and_epochs_with_any_number_of_workers(num_workers: int) -> None:
    def epochs(workers: int) -> list[list[Tensor]]:
        data = Digits(batch_size=64, subset=256, crop_padding=1, num_workers=workers, albumentations=[
            {"RandomCrop": {"height": 8, "width": 8}}, *SHIFT,
        ])  # fmt: skip
        loader = data.train_dataloader()
        assert isinstance(loader.fetch, AugmentedImages) and isinstance(loader.fetch.store, WindowStore)
        loader.fetch.store.stored.fill_(90)  # so that images differ by their draws alone
        return [[images for images, _ in loader] for _ in range(2)]

    ours = epochs(num_workers)
    batches = [batch for epoch in ours for batch in epoch]
    assert len(batches) == 8
    assert all(len(batch.unique()) > 8 for batch in batches)
    assert len({tuple(batch.flatten().tolist()) for batch in batches}) == 8
    if num_workers:
        assert all(map(torch.equal, batches, [batch for epoch in epochs(0) for batch in epoch]))


def test_all_of_a_training_batch_can_be_sent_to_a_worker_that_was_not_forked() -> None:
    loader = Digits(batch_size=8, subset=32, crop_padding=1, albumentations=[
        {"RandomCrop": {"height": 8, "width": 8}}
    ]).train_dataloader()  # fmt: skip
    sent = pickle.loads(pickle.dumps(loader.fetch))
    assert isinstance(sent, AugmentedImages)
    batch = batch_of(torch.arange(8), seed=3)
    for here, there in zip(loader.fetch(batch), sent(batch), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (["HorizontalFlop"], r"no transform 'HorizontalFlop'; did you mean HorizontalFlip\?$"),
        (["Compose"], "no transform 'Compose'"),
        (["os"], "no transform 'os'"),
        (["Qqqqqqqq"], "no transform 'Qqqqqqqq'; see albumentations' documentation"),
        ([{"RandomCrop": {"height": 8}}], r"^albumentations\.RandomCrop refuses {'height': 8}: .*width[^\n]*\.$"),
        ([{"RandomCrop": {"height": -1, "width": 8}}], r"RandomCrop refuses .*height[^\n]*\.$"),
    ],
)
def test_unknown_transforms_and_wrong_arguments_are_refused(pipeline: Pipeline, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Albumentations(pipeline)


@pytest.mark.parametrize(
    "pipeline",
    [
        [{"HorizontalFlip": {"p": 0.5}, "VerticalFlip": {"p": 0.5}}],
        [{}],
        [3],
        [{"HorizontalFlip": 0.5}],
        [{"HorizontalFlip": {"probability": 0.5}}],
    ],
)
def test_entries_of_another_form_are_refused_in_one_sentence(pipeline: Any) -> None:
    with pytest.raises(ValueError, match=r"^albumentations[^\n]*\.$"):
        Albumentations(pipeline)


def test_a_pipeline_that_changes_the_size_is_refused() -> None:
    data = Digits(albumentations=[{"RandomCrop": {"height": 7, "width": 8}}], num_workers=1)
    with pytest.raises(ValueError, match=r"shape \(1, 7, 8\); it must return \(1, 8, 8\): end it with a RandomCrop"):
        data.train_dataloader()  # before a worker could wrap the sentence in its traceback


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ([{"RandomCrop": {"height": 9, "width": 9}}], r"fails on an image of shape \(3, 6, 5\): .*[Cc]rop[^\n]*\.$"),
        ([{"ToFloat": {"p": 1.0}}], "returns float32 images; it must return uint8: leave out Normalize"),
        ([{"Transpose": {"p": 0.5}}], r"different sizes, .*\(5, 6\).*; end it with a RandomCrop or Resize"),
    ],
)
def test_pipelines_that_fail_on_images_say_why(pipeline: Pipeline, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Albumentations(pipeline)(images_of(32), batch_of(torch.arange(32)))


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_importing_datamodules_loads_no_heavy_library_and_albumentations_looks_for_no_updates() -> None:
    code = (
        "import os, sys; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None); import datamodules\n"
        "heavy = ('albumentations', 'sklearn', 'timm', 'wandb')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'albumentations': print(os.environ.get('NO_ALBUMENTATIONS_UPDATE'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "datamodules.Digits(albumentations=['HorizontalFlip'])"
    )
    assert run_python(code).split("\n") == ["[]", "1"]
