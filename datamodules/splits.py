"""Splits into training and validation samples: stratified by class, or by image.

A stratified split holds each class in the same proportion as the whole, to within one sample. Splits have a seed of
their own, so that runs with different training seeds are compared on the same validation images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import UserError
from common.messages.counting import count
from common.ranges import check_range


def stratified_sample(labels: Tensor, size: int, seed: int) -> Tensor:
    """Draws `size` of the N samples, stratified by class: sorted indices (size,) int64.

    Each class's share of `size` is rounded down, and the classes with the largest remainders get one sample more.

    Args:
        labels: Class of each sample, (N,) int64.
        size: Number of samples to draw, in [0, N].
        seed: Seed of the choice of samples within a class.
    """
    counts = torch.bincount(labels)
    exact = counts.double() * size / len(labels)
    take = exact.floor().long()
    remainders = (exact - take).argsort(descending=True, stable=True)
    take[remainders[: size - int(take.sum())]] += 1
    ranks = _rank_within_class(labels, seed)
    return (ranks < take[labels]).nonzero().flatten()


def stratified_folds(labels: Tensor, num_folds: int, seed: int) -> Tensor:
    """Assigns each of the N samples to a fold, in [0, num_folds − 1]: (N,) int64.

    The classes are dealt out one after the other without a gap, so the folds' sizes differ by one sample at most.
    """
    counts = torch.bincount(labels)
    before = counts.cumsum(0) - counts  # samples of the classes dealt out earlier
    return (before[labels] + _rank_within_class(labels, seed)) % num_folds


def balanced_order(order: Tensor, labels: Tensor) -> Tensor:
    """Replaces a shuffle of N samples by N draws in which all classes are equally frequent, to within one.

    Classes take turns, the j-th turn of a class draws the j-th of its samples in the order of the shuffle, and after
    the last one the first again: the samples of a class are drawn equally often, to within one.

    Args:
        order: The N samples in random order, (N,) int64.
        labels: Class of each sample, (N,) int64.

    Returns:
        Indices of the samples drawn, (N,) int64, in an order as random as the shuffle.
    """
    in_order = labels[order]
    present = in_order.unique()
    by_class = [order[in_order == label] for label in present]
    draws = torch.arange(len(order))
    turn, whose = draws // len(present), draws % len(present)
    drawn = torch.empty_like(order)
    for position, members in enumerate(by_class):
        mine = whose == position
        drawn[mine] = members[turn[mine] % len(members)]
    return drawn[order]


@dataclass(frozen=True)
class StratifiedSplit:
    """Splits N samples into training and validation samples, both stratified by class.

    Args:
        val_fraction: Fraction of the N samples held out for validation, in [0, 1).
        num_folds: Number of folds, ≥ 2, one of which is held out instead; None holds out `val_fraction`.
        fold: Index of the fold to hold out, in [0, num_folds − 1].
        subset: M, the number of training samples kept, ≥ 1; None keeps all.
        seed: Seed of the validation samples, the folds and the subset.

    Raises:
        ValueError: If a setting is outside its interval, or only one of num_folds and fold is given.
    """

    val_fraction: float
    num_folds: int | None
    fold: int | None
    subset: int | None
    seed: int

    def __post_init__(self) -> None:
        check_range("val_fraction", self.val_fraction, 0 <= self.val_fraction < 1, "in [0, 1)")
        check_range("subset", self.subset, self.subset is None or self.subset >= 1, "at least 1, or null for all")
        if (self.num_folds is None) != (self.fold is None):
            raise UserError(f"num_folds is {self.num_folds} and fold is {self.fold}; give both or neither.")
        if self.num_folds is not None and self.fold is not None:
            check_range("num_folds", self.num_folds, self.num_folds >= 2, "at least 2")
            accepted = f"in [0, {self.num_folds - 1}], since num_folds is {self.num_folds}"
            check_range("fold", self.fold, 0 <= self.fold < self.num_folds, accepted)

    def __call__(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns training and validation indices in ascending order, (M,) and (V,) int64.

        Args:
            labels: Class of each sample, (N,) int64.

        Raises:
            ValueError: If no sample is left to train on, or there are fewer samples than folds or than `subset`.
        """
        total = len(labels)
        if self.num_folds is not None:
            if self.num_folds > total:
                raise UserError(
                    f"num_folds is {self.num_folds}, but there are {total} training images; give at most {total}."
                )
            held_out = stratified_folds(labels, self.num_folds, self.seed).eq(self.fold or 0).nonzero().flatten()
        else:
            held_out = stratified_sample(labels, round(total * self.val_fraction), self.seed)
        if len(held_out) == total:
            raise UserError(_none_left(self.val_fraction, total))
        is_training = torch.ones(total, dtype=torch.bool)
        is_training[held_out] = False
        training = is_training.nonzero().flatten()
        if self.subset is not None:
            _check_subset(self.subset, len(training), len(held_out))
            training = training[stratified_sample(labels[training], self.subset, self.seed)]
        return training, held_out


def split_by_image(
    num_images: int, held_out: Sequence[int] | None, val_fraction: float, subset: int | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Splits images without labels: training and validation indices in ascending order, (M,) and (V,) int64.

    Args:
        num_images: N, the number of images to split.
        held_out: Indices of the data set's official validation images; None draws them.
        val_fraction: Fraction of the N images that is drawn for validation.
        subset: M, the number of training images kept; None keeps all.
        seed: Seed of the validation images and the subset.

    Raises:
        ValueError: If no image is left to train on, or `subset` is larger than the training split.
    """
    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(seed))
    is_training = torch.ones(num_images, dtype=torch.bool)
    validation = order[: round(num_images * val_fraction)] if held_out is None else torch.tensor(held_out).long()
    is_training[validation] = False
    training = order[is_training[order]]
    if not len(training):
        raise UserError(_none_left(val_fraction, num_images))
    if subset is not None:
        _check_subset(subset, len(training), num_images - len(training))
    return training[:subset].sort().values, (~is_training).nonzero().flatten()


def _none_left(val_fraction: float, num_images: int) -> str:
    return f"val_fraction is {val_fraction}, which leaves none of {count(num_images, 'image')} to train on; give less."


def _check_subset(subset: int, num_training: int, num_held_out: int) -> None:
    if subset > num_training:
        raise UserError(
            f"subset is {subset}, but there are {num_training} training images after {num_held_out} were held out for "
            f"validation; give at most {num_training}."
        )


def _rank_within_class(labels: Tensor, seed: int) -> Tensor:
    """Rank of each sample in a random order of its class, counted from 0: (N,) int64."""
    shuffle = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffle[labels[shuffle].argsort(stable=True)]  # samples in random order, class after class
    counts = torch.bincount(labels)
    ranks = torch.empty_like(labels)
    ranks[by_class] = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    return ranks
