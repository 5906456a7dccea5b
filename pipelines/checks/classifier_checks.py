"""What the course teaches to look at before a classifier is trained, each as one check with its figures.

    initial loss   what `expected_initial_loss` predicts for logits near 0: ln K for softmax, (K − 1) Δ for the hinge
    gradients      backpropagation against central differences in float64: `gradient_checks.py`
    parameters     each of them is reached by a finite gradient that is not all zero: there, too
    overfitting    a few training images can be learned by heart
    splits         validation and test images are not training images too

Sources: https://cs231n.github.io/neural-networks-3/#gradcheck and https://cs231n.github.io/neural-networks-3/#sanitycheck

Shapes: N images of a split, B of a batch, K classes.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from hashlib import blake2b
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from pipelines.checks.gradient_checks import check_gradients, check_parameters
from pipelines.checks.sanity_checkable import (
    Report,
    Result,
    SanityCheckable,
    Split,
    training_loss,
    without_regularization,
)

_LOSS_TOLERANCE = 0.05  # share by which the initial loss may be off
_OVERFIT_ACCURACY = 0.98
_OVERFIT_STEPS = 300  # for each of these learning rates
_OVERFIT_RATES = (1e-3, 1e-2, 1e-4)
_OVERLAP_TOLERANCE = 0.01  # share of a split; published data sets hold a few duplicates


def check_initial_loss(model: SanityCheckable, images: Tensor, labels: Tensor) -> Result:
    """Compares the data loss of an untrained model with the one it expects: images (B, ...), labels (B,)."""
    expected = model.expected_initial_loss()
    model = without_regularization(model)
    with torch.no_grad():
        loss = float(model.loss(model(images), labels))
    if expected is None:
        return Result("initial loss", None if isfinite(loss) else False, f"{loss:.4f}; the model expects none")
    off = abs(loss - expected) / abs(expected) if expected else abs(loss)
    figures = f"{loss:.4f}, expected {expected:.4f}: {off:.1%} off (limit {_LOSS_TOLERANCE:.0%})"
    return Result("initial loss", off <= _LOSS_TOLERANCE, figures)


def check_overfitting(
    model: SanityCheckable, images: Tensor, labels: Tensor, report: Report = lambda _: None
) -> Result:
    """Learns a few images by heart with Adam on all of them at once, without augmentation or regularization.

    Args:
        model: as built; it is left as it is.
        images: (B, ...), preprocessed.
        labels: (B,).
        report: told the accuracy after each step.
    """
    plain = without_regularization(model)
    if not any(p.requires_grad for p in plain.parameters()):
        return Result("overfitting", None, "the model has no parameters to train")
    best, best_step, best_rate = 0, 0, 0.0
    for rate in _OVERFIT_RATES:
        learner = deepcopy(plain)
        optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=rate)
        for step in range(_OVERFIT_STEPS + 1):
            with torch.no_grad():
                correct = int((learner(images).argmax(1) == labels).sum())
            if correct > best:
                best, best_step, best_rate = correct, step, rate
            report(f"{correct} of {len(labels)} images after {step} steps at learning rate {rate:g}")
            loss = training_loss(learner, (images, labels))
            if best == len(labels) or not loss.requires_grad or not bool(loss.isfinite()):
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if best >= _OVERFIT_ACCURACY * len(labels):
            break
    passed = best >= _OVERFIT_ACCURACY * len(labels)
    how = f"in {best_step} steps of Adam, learning rate {best_rate:g}" if passed else f"(limit {_OVERFIT_ACCURACY:.0%})"
    figures = f"{best} of {len(labels)} training images learned by heart {how}"
    return Result("overfitting", passed, figures)


def check_splits(splits: Mapping[str, Split]) -> Result:
    """Counts images that are in two splits, by their contents: `train`, `val` and `test`, images (N, ...)."""
    digests = {name: [_digest(image) for image in images] for name, (images, _) in splits.items()}
    passed, counts = True, []
    for name, within in (("val", "train"), ("test", "train"), ("test", "val")):
        if not digests.get(name) or not digests.get(within):
            continue
        known = set(digests[within])
        shared = sum(digest in known for digest in digests[name])
        passed &= shared <= _OVERLAP_TOLERANCE * len(digests[name])
        counts.append(f"{shared:,} of {len(digests[name]):,} {name} in {within}")
    if not counts:
        return Result("splits", None, "there is one split alone")
    return Result("splits", passed, f"{', '.join(counts)} (limit {_OVERLAP_TOLERANCE:.0%})")


def _digest(image: Tensor) -> bytes:
    return blake2b(image.contiguous().numpy().data, digest_size=16).digest()


def read_splits(data: Any) -> dict[str, Split]:
    """All splits of a datamodule, in memory, unaugmented and before its preprocessing: `train`, `val`, `test`.

    Raises:
        ValueError: the datamodule keeps no splits in memory.
    """
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    splits = getattr(data, "splits", None)
    if not isinstance(splits, dict) or "train" not in splits:
        raise UserError(
            f"{type(data).__name__} keeps no images in `splits`, so they can't be compared; give data that does, such "
            "as CIFAR10, MNIST, Digits or Shapes."
        )
    return splits


def run_checks(
    model: SanityCheckable,
    splits: Mapping[str, Split],
    preprocess: Callable[[Split], Split],
    report: Report = lambda _: None,
) -> Iterable[Result]:
    """All checks, one after the other, each result as soon as it is known. They run on the CPU, so all see one result.

    Args:
        model: untrained; it is left as it is.
        splits: `train`, and `val` and `test` if there are any: images (N, ...), labels (N,) int64.
        preprocess: what turns images of a split into the model's.
        report: told which check is under way and how far it is.
    """
    images, labels = splits["train"]
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(torch.initial_seed()))
    several, few, tiny = (preprocess((images[drawn[:n]], labels[drawn[:n]])) for n in (500, 50, 10))
    report("initial loss")
    yield check_initial_loss(model, *several)
    yield check_gradients(model, *tiny, lambda text: report(f"gradients: {text}"))
    report("parameters")
    yield check_parameters(model, *few)
    yield check_overfitting(model, *few, lambda text: report(f"overfitting: {text}"))
    report("splits")
    yield check_splits(splits)
