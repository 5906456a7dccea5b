"""Stratified samples and folds: exact sizes, every class in proportion, on random label vectors of all kinds."""

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.splits import StratifiedSplit, balanced_order, split_by_image, stratified_folds, stratified_sample


def random_labels(seed: int) -> Tensor:
    """Balanced, unbalanced or with classes missing, of 1 to 300 samples, in random order."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(1, 12)
    weights = rng.dirichlet(np.full(classes, rng.choice([0.2, 1.0, 50.0])))
    present = rng.permutation(15)[:classes]  # of the classes 0 to 14, some are missing
    return torch.from_numpy(present[rng.choice(classes, size=rng.integers(1, 300), p=weights)].astype(np.int64))


@pytest.mark.parametrize("seed", range(40))
def test_samples_have_the_given_size_and_each_class_within_one_of_its_share(seed: int) -> None:
    labels = random_labels(seed)
    for size in {0, 1, len(labels) // 10, len(labels) // 3, len(labels) - 1, len(labels)}:
        sample = stratified_sample(labels, size, seed)
        assert sample.dtype == torch.int64
        assert len(sample) == size
        assert sample.tolist() == sorted(set(sample.tolist()))
        taken = np.bincount(labels[sample].numpy(), minlength=15)
        share = np.bincount(labels.numpy(), minlength=15) * size / len(labels)
        assert np.abs(taken - share).max() < 1
        assert (taken[share == np.round(share)] == share[share == np.round(share)]).all()


@pytest.mark.parametrize("seed", range(40))
def test_folds_are_balanced_in_size_and_in_each_class(seed: int) -> None:
    labels = random_labels(seed)
    for num_folds in {2, 3, 5, 10}:
        folds = stratified_folds(labels, num_folds, seed)
        assert folds.shape == labels.shape
        assert (int(folds.min()), int(folds.max())) >= (0, 0)
        assert folds.max() < num_folds
        sizes = torch.bincount(folds, minlength=num_folds)
        assert sizes.max() - sizes.min() <= 1
        for label in labels.unique():
            per_fold = torch.bincount(folds[labels == label], minlength=num_folds)
            assert per_fold.max() - per_fold.min() <= 1


def test_samples_of_a_class_are_drawn_uniformly_by_the_seed() -> None:
    labels = torch.arange(40) % 4
    taken, held_out = torch.zeros(40), torch.zeros(40)
    for seed in range(1000):
        taken[stratified_sample(labels, 12, seed)] += 1
        held_out += stratified_folds(labels, 5, seed) == 0
    # Binomial with p = 0.3 and p = 0.2: standard deviations 14.5 and 12.6.
    assert (taken - 300).abs().max() < 5 * 14.5
    assert (held_out - 200).abs().max() < 5 * 12.6


def test_the_same_seed_repeats_and_another_does_not() -> None:
    labels = random_labels(3)
    half = len(labels) // 2
    assert torch.equal(stratified_sample(labels, half, 1), stratified_sample(labels, half, 1))
    assert not torch.equal(stratified_sample(labels, half, 1), stratified_sample(labels, half, 2))
    assert torch.equal(stratified_folds(labels, 4, 1), stratified_folds(labels, 4, 1))
    assert not torch.equal(stratified_folds(labels, 4, 1), stratified_folds(labels, 4, 2))


def test_torchs_global_random_state_is_not_changed() -> None:
    before = torch.get_rng_state()
    stratified_sample(torch.arange(10), 5, 0)
    stratified_folds(torch.arange(10), 5, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_largest_remainders_get_the_missing_samples() -> None:
    labels = torch.tensor([0] * 5 + [1] * 4 + [2])  # shares of three: 1.5, 1.2 and 0.3
    assert torch.bincount(labels[stratified_sample(labels, 3, 0)], minlength=3).tolist() == [2, 1, 0]


def test_classes_are_split_into_disjoint_parts_and_every_fold_is_held_out_once() -> None:
    labels = torch.arange(5).repeat(20)
    train, val = StratifiedSplit(0.2, None, None, None, seed=0)(labels)
    assert sorted(train.tolist() + val.tolist()) == list(range(100))
    assert torch.bincount(labels[val]).tolist() == [4] * 5
    few, same = StratifiedSplit(0.2, None, None, 15, seed=0)(labels)
    assert torch.equal(same, val)
    assert set(few.tolist()) < set(train.tolist())
    assert torch.bincount(labels[few]).tolist() == [3] * 5
    folds = [StratifiedSplit(0.2, 4, fold, None, seed=0)(labels) for fold in range(4)]
    assert torch.cat([held_out for _, held_out in folds]).sort().values.tolist() == list(range(100))
    assert all(not set(kept.tolist()) & set(held_out.tolist()) and len(kept) == 75 for kept, held_out in folds)


@pytest.mark.parametrize("held_out", [None, [0, 4, 9]])
def test_images_are_split_into_disjoint_sorted_parts_and_a_subset_leaves_the_validation_alone(
    held_out: list[int] | None,
) -> None:
    train, val = split_by_image(10, held_out, 0.3, None, seed=0)
    assert sorted(train.tolist() + val.tolist()) == list(range(10))
    assert len(val) == 3
    assert train.tolist() == sorted(train.tolist())
    assert held_out is None or val.tolist() == held_out
    few, same = split_by_image(10, held_out, 0.3, 4, seed=0)
    assert len(few) == 4
    assert set(few.tolist()) < set(train.tolist())
    assert few.tolist() == sorted(few.tolist())
    assert torch.equal(same, val)
    assert {tuple(split_by_image(10, None, 0.3, None, seed)[1].tolist()) for seed in range(20)} - {tuple(val.tolist())}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, None, 0.9, None, 0), r"val_fraction is 0\.9, which leaves none of 4 images to train on; give less"),
        ((4, None, 0.5, 3, 0), "subset is 3, but there are 2 training images after 2 were held out .* at most 2"),
    ],
)
def test_impossible_image_splits_are_refused(arguments: tuple[int, None, float, int | None, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_by_image(*arguments)


def test_balanced_draws_take_every_class_equally_often_and_its_samples_in_turn() -> None:
    labels = torch.tensor([0] * 60 + [3] * 20 + [1] * 4)
    order = torch.randperm(84, generator=torch.Generator().manual_seed(0))
    drawn = balanced_order(order, labels)
    assert torch.bincount(labels[drawn]).tolist() == [28, 28, 0, 28]
    times = torch.bincount(drawn, minlength=84)
    for label, most in ((0, 1), (3, 2), (1, 7)):
        of_class = times[labels == label]
        assert of_class.max() == most
        assert of_class.max() - of_class.min() <= 1


def test_balanced_draws_are_in_random_order_and_follow_the_shuffle() -> None:
    labels = torch.arange(1000) % 10 // 9  # nine tenths and one tenth
    first, second = (
        balanced_order(torch.randperm(1000, generator=torch.Generator().manual_seed(seed)), labels) for seed in (0, 1)
    )
    assert not torch.equal(first, second)
    in_halves = labels[first].reshape(2, 500).float().mean(1)
    assert (in_halves - 0.5).abs().max() < 0.1
    alternating = (labels[first][1:] != labels[first][:-1]).float().mean()
    assert 0.4 < alternating < 0.6
