"""Alternating mirroring over epochs, ranks, seeds and a resume; and the reflected border of crops."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import Digits
from datamodules.images.augmentation import AugmentedImages, WindowStore, draw_mirrored
from datamodules.images.features import FeatureBatches
from datamodules.loader import Batch, BatchLoader

N = 1000


def loader_of(batch_size: int = 100, seed: int = 3, rank: int = 0, world_size: int = 1) -> BatchLoader:
    """Batches of pairs: indices of the images, and whether they are mirrored."""
    return BatchLoader(
        lambda batch: (batch.indices, draw_mirrored(batch, "alternate")),
        N,
        batch_size,
        training=True,
        seed=seed,
        rank=rank,
        world_size=world_size,
    )


def epoch_of(loader: BatchLoader) -> Tensor:
    """Whether each image is mirrored in the next epoch, (N,); -1 if the epoch leaves it out."""
    found = torch.full((N,), -1)
    for indices, mirrored in loader:
        found[indices] = mirrored
    return found


def test_each_image_is_mirrored_in_every_other_epoch() -> None:
    loader = loader_of()
    epochs = [epoch_of(loader) for _ in range(4)]
    assert set(epochs[0].tolist()) == {0, 1}
    for before, after in pairwise(epochs):
        assert torch.equal(after, 1 - before)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_random_half_of_the_images_begins_mirrored(seed: int) -> None:
    first = epoch_of(loader_of(seed=seed))
    assert abs(int(first.sum()) - N / 2) < 4 * (N / 4) ** 0.5
    for lag in (1, 2, 7):  # neighbors in the files are independent
        agree = int((first[lag:] == first[:-lag]).sum())
        assert abs(agree - (N - lag) / 2) < 4 * (N / 4) ** 0.5
    other = epoch_of(loader_of(seed=seed + 1))
    assert abs(int((first == other).sum()) - N / 2) < 4 * (N / 4) ** 0.5


def test_two_ranks_mirror_the_images_of_one_process() -> None:
    alone = loader_of(batch_size=100)
    ranks = [loader_of(batch_size=50, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(2):
        shares = [epoch_of(loader) for loader in ranks]
        assert torch.equal(torch.maximum(*shares), epoch_of(alone))


@pytest.mark.parametrize("done", [3, 10, 14])
def test_a_resumed_run_mirrors_the_same_images(done: int) -> None:
    def stream(loader: BatchLoader, count: int) -> list[tuple[Tensor, Tensor]]:
        found: list[tuple[Tensor, Tensor]] = []
        while len(found) < count:
            for batch in loader:
                found.append(batch)
                if len(found) == count:
                    break
        return found

    whole = stream(loader_of(), 25)
    begun, resumed = loader_of(), loader_of(seed=99)  # the checkpoint's seed wins
    stream(begun, done)
    resumed.load_state_dict(begun.state_dict())
    for got, expected in zip(stream(resumed, 25 - done), whole[done:], strict=True):
        assert all(map(torch.equal, got, expected))


def test_images_and_features_are_mirrored_alike() -> None:
    images = torch.randint(256, (N, 1, 4, 5), dtype=torch.uint8)
    batch = Batch(torch.arange(N), 1, N, 0, epoch=1, run_seed=5)
    mirrored = draw_mirrored(batch, "alternate").bool()
    expected = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    assert torch.equal(WindowStore(images, 0, "alternate").gather(batch), expected)
    copies = torch.stack([torch.zeros(N, 1), torch.ones(N, 1)], 1)
    features, _ = FeatureBatches(copies, torch.arange(N), "alternate")(batch)
    assert torch.equal(features[:, 0].bool(), mirrored)


def test_random_mirroring_draws_again_in_each_epoch() -> None:
    batches = [Batch(torch.arange(N), seed, N, 0, epoch=seed) for seed in range(2)]
    first, second = (draw_mirrored(batch, True) for batch in batches)
    assert abs(int((first == second).sum()) - N / 2) < 4 * (N / 4) ** 0.5


@pytest.mark.parametrize("padding", [1, 3])
def test_reflected_border_equals_numpys(padding: int) -> None:
    images = torch.randint(256, (3, 2, 5, 4), dtype=torch.uint8)
    stored = WindowStore(images, padding, False, "reflect").padded(torch.arange(3))
    width = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    np.testing.assert_array_equal(stored, np.pad(images.numpy(), width, mode="reflect"))


def test_settings_reach_the_batches() -> None:
    data = Digits(batch_size=1293, flip="alternate", crop_padding=2, crop_border="reflect")
    loader = data.train_dataloader()
    ((first, _),), ((second, _),) = list(loader), list(loader)
    assert first.shape == second.shape == (1293, 1, 8, 8)
    assert isinstance(loader.fetch, AugmentedImages) and loader.fetch.store.flip == "alternate"
    with pytest.raises(ValueError, match="crop_border is mirror; it must be zeros or reflect"):
        Digits(crop_border="mirror")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="flip is sometimes; it must be true, false or alternate"):
        Digits(flip="sometimes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="crop_padding is 8; it must be less than 8, the side of the images"):
        Digits(crop_border="reflect", crop_padding=8)
