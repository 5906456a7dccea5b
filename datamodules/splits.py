"""Splits. Stratified ones hold each class in the same proportion as the whole, to within one sample.

Drawn by a seed of their own, so that runs with different training seeds are compared on the same validation images.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import UserError


def stratified_sample(labels: Tensor, size: int, seed: int) -> Tensor:
    """Indices of `size` of the N samples, stratified and sorted: (size,) int64.

    The classes' shares of `size` are rounded down, and what is missing goes to the largest remainders.

    Args:
        labels: class of each sample, (N,) int64.
        size: 0 to N.
        seed: decides which samples of a class are taken.
    """
    counts = torch.bincount(labels)
    exact = counts.double() * size / len(labels)
    take = exact.floor().long()
    remainders = (exact - take).argsort(descending=True, stable=True)
    take[remainders[: size - int(take.sum())]] += 1
    ranks = _rank_within_class(labels, seed)
    return (ranks < take[labels]).nonzero().flatten()


def stratified_folds(labels: Tensor, num_folds: int, seed: int) -> Tensor:
    """The fold, 0 to num_folds − 1, of each of the N samples: (N,) int64.

    The classes are dealt out one after the other without a gap, so the folds' sizes differ by one sample at most.
    """
    counts = torch.bincount(labels)
    before = counts.cumsum(0) - counts  # samples of the classes dealt out earlier
    return (before[labels] + _rank_within_class(labels, seed)) % num_folds


def split_by_class(
    labels: Tensor, val_fraction: float, num_folds: int | None, fold: int | None, subset: int | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Training and validation samples of N, both stratified, in rising order: (M,) and (V,) int64.

    Args:
        labels: class of each sample, (N,) int64.
        val_fraction: share of the N that is held out.
        num_folds: hold out one of this many folds instead …
        fold: … this one.
        subset: M, how many of the rest are trained on; None takes all.
        seed: draws the validation samples, the folds and the subset.

    Raises:
        ValueError: nothing left to train on, more folds than samples, or a subset that is larger than the rest.
    """
    if num_folds is not None:
        if num_folds > len(labels):
            raise UserError(
                f"num_folds is {num_folds}, but there are {len(labels)} training images; give at most {len(labels)}."
            )
        held_out = stratified_folds(labels, num_folds, seed).eq(fold or 0).nonzero().flatten()
    else:
        held_out = stratified_sample(labels, round(len(labels) * val_fraction), seed)
    if len(held_out) == len(labels):
        raise UserError(
            f"val_fraction is {val_fraction}, which leaves none of {len(labels)} images to train on; give less."
        )
    training = torch.ones(len(labels), dtype=torch.bool)
    training[held_out] = False
    kept = training.nonzero().flatten()
    if subset is not None:
        _check_subset(subset, len(kept), len(held_out))
        kept = kept[stratified_sample(labels[kept], subset, seed)]
    return kept, held_out


def split_by_image(
    num_images: int, held_out: Sequence[int] | None, val_fraction: float, subset: int | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Training and validation images, in rising order: (M,) and (V,) int64.

    Args:
        num_images: N, to be split.
        held_out: the validation images, where the data set says which; None draws them.
        val_fraction: share of the N that is drawn.
        subset: M, how many of the rest are trained on; None takes all.
        seed: draws the validation images and the subset.

    Raises:
        ValueError: nothing left to train on, or a subset that is larger than the rest.
    """
    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(seed))
    training = torch.ones(num_images, dtype=torch.bool)
    training[order[: round(num_images * val_fraction)] if held_out is None else torch.tensor(held_out).long()] = False
    kept = order[training[order]]
    if not len(kept):
        raise UserError(
            f"val_fraction is {val_fraction}, which leaves none of {num_images} images to train on; give less."
        )
    if subset is not None:
        _check_subset(subset, len(kept), num_images - len(kept))
    return kept[:subset].sort().values, (~training).nonzero().flatten()


def _check_subset(subset: int, left: int, held_out: int) -> None:
    if subset > left:
        raise UserError(
            f"subset is {subset}, but there are {left} training images after {held_out} were held out for validation; "
            f"give at most {left}."
        )


def _rank_within_class(labels: Tensor, seed: int) -> Tensor:
    """Place of each sample in a random order of its class, counted from 0: (N,) int64."""
    shuffle = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffle[labels[shuffle].argsort(stable=True)]  # samples in random order, class after class
    counts = torch.bincount(labels)
    ranks = torch.empty_like(labels)
    ranks[by_class] = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    return ranks
