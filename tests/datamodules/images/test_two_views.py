"""Two views: how their parameters are drawn, the same on any number of processes and after a resume, and refusals."""

from itertools import islice
from math import log
from typing import Any

import pytest
import torch
import torchvision.transforms as torchvision
from torch import Tensor

from datamodules import Digits, Shapes
from datamodules.images.preprocessing import Method
from datamodules.images.two_views import PairsOfViews, TwoViews
from datamodules.loader import Batch, BatchLoader

N = 40
ALL = TwoViews(blur=0.5)  # every operation happens


def batch_of(size: int, seed: int = 0) -> Batch:
    return Batch(torch.arange(size), seed, size, 0)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(256, (N, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_crops_are_distributed_as_torchvision_draws_them() -> None:
    torch.manual_seed(0)
    drawn = TwoViews().draw(batch_of(20_000), 32, 32)[:4]  # top, left, rows, columns
    crop = torchvision.RandomResizedCrop.get_params
    theirs = torch.tensor([crop(torch.zeros(3, 32, 32), [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(20_000)]).T
    for mine, its in zip(drawn, theirs.float(), strict=True):
        for power in (1, 2):
            torch.testing.assert_close(mine.pow(power).mean(), its.pow(power).mean(), rtol=0.02, atol=0)
        assert abs(mine.min() - its.min()) <= 1 and abs(mine.max() - its.max()) <= 1
    top, left, rows, columns = drawn
    assert (top + rows).max() == (left + columns).max() == 32
    assert abs((columns / rows).log().mean()) < 0.01
    assert (columns / rows).log().abs().max() < log(4 / 3) + 0.1  # sides are whole pixels


def test_color_jitter_is_drawn_as_documented() -> None:
    settings = TwoViews(jitter=0.5, jitter_probability=0.6, grayscale=0.3, blur=0.1)
    _, _, _, _, mirrored, *factors, turn, gray, blurred, sigma = settings.draw(batch_of(20_000), 32, 32)
    shares = {"mirrored": mirrored, "gray": gray, "blurred": blurred, "changed": turn != 0}
    for (name, drawn), expected in zip(shares.items(), (0.5, 0.3, 0.1, 0.6), strict=True):
        assert drawn.float().mean().item() == pytest.approx(expected, abs=0.02), name
    for factor in factors:
        assert torch.equal(factor != 1, turn != 0)  # all colors of a view are changed, or none
        assert 0.6 <= factor.min() < 0.61 and 1.39 < factor.max() <= 1.4
    assert -0.1 <= turn.min() < -0.099 and 0.099 < turn.max() <= 0.1
    assert 0.1 <= sigma.min() < 0.11 and 1.99 < sigma.max() <= 2
    assert torch.corrcoef(torch.stack([*factors, turn]))[0, 1:].abs().max() < 0.03


def test_views_are_uint8_of_their_own_image_and_differ(images: Tensor) -> None:
    labels = torch.arange(N)
    views, found = PairsOfViews(images, labels, ALL)(Batch(torch.tensor([7, 3, 7]), 0, 3, 0))
    assert views.shape == (3, 2, 3, 32, 32) and views.dtype == torch.uint8
    assert found.tolist() == [7, 3, 7]
    assert len({view.numpy().tobytes() for view in views.flatten(0, 1)}) == 6


def test_without_random_operations_the_image_is_unchanged(images: Tensor) -> None:
    still = TwoViews(min_area=1.0, flip=False, jitter=0.0, grayscale=0.0)
    chosen = Batch(torch.arange(N), 0, N, 0)
    draws = still.draw(chosen, 32, 32)
    draws[:4] = torch.tensor([0.0, 0.0, 32.0, 32.0])[:, None]  # the ratio of the sides is still drawn
    views = still.apply(images.float() / 255, draws, [0, 1, 2, 3])
    torch.testing.assert_close(views, images.float() / 255)


def test_order_of_the_colors_counts_and_changes_with_the_step(images: Tensor) -> None:
    pairs = PairsOfViews(images, torch.arange(N), ALL)
    draws = ALL.draw(batch_of(N), 32, 32)
    one, other = (ALL.apply(images.float() / 255, draws, order) for order in ([0, 1, 2, 3], [3, 2, 1, 0]))
    assert not torch.allclose(one, other, atol=1e-3)
    assert not torch.equal(pairs(batch_of(N, 1))[0], pairs(batch_of(N, 2))[0])


def test_gray_images_keep_one_channel() -> None:
    images = torch.randint(256, (N, 1, 28, 28), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    views, _ = PairsOfViews(images, torch.arange(N), ALL)(batch_of(8))
    assert views.shape == (8, 2, 1, 28, 28)


def loaders(images: Tensor, batch_size: int, world_size: int) -> list[BatchLoader]:
    fetch = PairsOfViews(images, torch.arange(N), ALL)
    return [
        BatchLoader(fetch, N, batch_size, training=True, seed=5, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_draw_the_views_of_one(images: Tensor, processes: int) -> None:
    (alone,) = loaders(images, 16, 1)
    together = zip(*loaders(images, 16 // processes, processes), strict=True)
    for (views, labels), shares in zip(alone, together, strict=True):
        assert torch.equal(views, torch.cat([share[0] for share in shares]))
        assert torch.equal(labels, torch.cat([share[1] for share in shares]))


def test_a_resumed_run_draws_the_same_views(images: Tensor) -> None:
    (through,), (killed,), (resumed,) = (loaders(images, 8, 1) for _ in range(3))
    expected = [views for _ in range(2) for views, _ in through][3:]
    list(islice(killed, 3))
    resumed.load_state_dict(killed.state_dict())
    found = [views for _ in range(2) for views, _ in resumed]
    assert len(found) == len(expected) == 7
    assert all(torch.equal(actual, other) for actual, other in zip(found, expected, strict=True))


def test_a_data_module_gives_preprocessed_pairs_in_training_alone() -> None:
    data = Shapes(batch_size=16, two_views=TwoViews())
    data.setup("fit")
    views, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert views.shape == (16, 2, 3, 32, 32) and views.dtype == torch.float32 and labels.shape == (16,)
    back = data.preprocessing.inverse(views)
    assert back.min() >= 0 and back.max() <= 1 and back.std() > 0.1
    assert next(iter(data.val_dataloader()))[0].shape == (16, 3, 32, 32)


def test_views_may_be_smaller_than_the_images() -> None:
    data = Shapes(batch_size=16, two_views=TwoViews(min_area=1.0, size=24, jitter=0.0, grayscale=0.0, flip=False))
    data.setup("fit")
    views, _ = next(iter(data.train_dataloader()))
    assert views.shape == (16, 2, 3, 24, 24)
    assert torch.equal(views[:, 0], views[:, 1])  # the whole image, shrunk: not a part of it


@pytest.mark.parametrize("preprocessing", ["mean_image", "pca", "whiten"])
def test_smaller_views_need_a_preprocessing_of_channels(preprocessing: Method) -> None:
    with pytest.raises(ValueError, match=rf"^two_views\.size is 24 with preprocessing {preprocessing}, which"):
        Shapes(preprocessing=preprocessing, two_views=TwoViews(size=24))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": -1}, r"^size is -1; it must be at least 1, or 0 for the images' size\.$"),
        ({"min_area": 0.0}, r"^min_area is 0\.0; it must be in \(0, 1\]\.$"),
        ({"min_area": 1.5}, r"^min_area is 1\.5"),
        ({"jitter": -0.1}, r"^jitter is -0\.1; it must be in \[0, 1\]\.$"),
        ({"jitter_probability": 2.0}, r"^jitter_probability is 2\.0"),
        ({"grayscale": 1.1}, r"^grayscale is 1\.1"),
        ({"blur": float("nan")}, r"^blur is nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TwoViews(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [("crop_padding", 2), ("flip", True), ("cutout", 3), ("rotation", 9.0), ("features", ["hog"])],
)
def test_other_augmentation_is_refused(name: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^two_views is set with {name} .*; leave that out: views have their own augmentation"
    ):
        Digits(two_views=TwoViews(), **{name: value})
