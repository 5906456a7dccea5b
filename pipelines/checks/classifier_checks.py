"""Sanity checks of a classifier before training, as the course teaches them.

    initial loss   `expected_initial_loss` for logits near 0: ln K for softmax, (K − 1) Δ for the hinge loss
    gradients      backpropagation against central differences in float64 (`gradient_checks.py`)
    parameters     every parameter receives a finite, nonzero gradient (`gradient_checks.py`)
    evaluation     evaluation mode is deterministic and counts correctly (`evaluation_checks.py`)
    overfitting    the model can overfit 50 training images, or 25 if it is large (`check_sizes.py`),
                   and its loss on them falls to a third
    splits         validation and test images are not in the training split

Sources: https://cs231n.github.io/neural-networks-3/#gradcheck and https://cs231n.github.io/neural-networks-3/#sanitycheck

Shapes: N images of a split, B of a batch, K classes.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import UserError
from pipelines.checks.check_sizes import check_sizes
from pipelines.checks.evaluation_checks import check_evaluation
from pipelines.checks.frozen_layers import compute_frozen_once
from pipelines.checks.gradient_checks import check_gradients, check_parameters
from pipelines.checks.sanity_checkable import (
    Report,
    Result,
    SanityCheckable,
    Split,
    training_loss,
    without_regularization,
)
from pipelines.console.formatting import count

_LOSS_TOLERANCE = 0.05  # relative error of the initial loss
_ZERO_LOGITS = 0.02  # fraction that may be exactly 0; after a ReLU, about half of them are
_OVERFIT_ACCURACY = 0.98
_OVERFIT_LOSS = 1 / 3  # of the initial loss; with a second softmax, cross-entropy stays above 0.45 of it
_OVERFIT_STEPS = 300  # for each of these learning rates
# The largest is for a linear layer on features that hardly differ, as those of a randomly initialized encoder: with a
# standard deviation of 0.01, 50 images need 625 to 957 steps of 0.01, and 147 to 221 of 0.1.
_OVERFIT_RATES = (1e-3, 1e-2, 1e-4, 1e-1)
_OVERLAP_TOLERANCE = 0.01  # fraction of a split; published data sets contain a few duplicates


def check_initial_loss(model: SanityCheckable, images: Tensor, labels: Tensor) -> Result:
    """Compares the training loss of an untrained model with its expected initial loss: images (B, ...), labels (B,).

    Without regularization, `training_step` must return `loss` of the logits. Mixed images may change it a little.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return Result("initial loss", None, "the model has no parameters to train")
    expected = model.expected_initial_loss()
    model = without_regularization(model)
    with torch.no_grad():
        logits = model(images)
        loss = float(model.loss(logits, labels))
        trained = float(training_loss(model, (images, labels)))
    zeros = float((logits == 0).float().mean())
    if _ZERO_LOGITS < zeros < 1:
        return Result("initial loss", False, f"{zeros:.0%} of the logits are exactly 0, as after a ReLU")
    if not abs(trained - loss) <= _LOSS_TOLERANCE * abs(loss):  # NaN too
        return Result("initial loss", False, f"training_step returns {trained:.4f}, loss {loss:.4f} of the same batch")
    if expected is None:
        return Result("initial loss", None, f"{loss:.4f}; the model gives no expected value")
    off = abs(loss - expected) / abs(expected) if expected else abs(loss)
    figures = f"{loss:.4f}, expected {expected:.4f}: {off:.1%} off (limit {_LOSS_TOLERANCE:.0%})"
    return Result("initial loss", off <= _LOSS_TOLERANCE, figures)


def check_overfitting(
    model: SanityCheckable, images: Tensor, labels: Tensor, report: Report = lambda _: None
) -> Result:
    """Overfits a few images with Adam on the full batch, without augmentation or regularization.

    Args:
        model: Untrained model; it is not changed.
        images: Preprocessed images (B, ...).
        labels: Labels (B,).
        report: Called with the accuracy after each step.
    """
    plain = without_regularization(model)
    if not any(p.requires_grad for p in plain.parameters()):
        return Result("overfitting", None, "the model has no parameters to train")
    best = _Overfitted(0, torch.inf, 0, 0.0)
    needed = _OVERFIT_ACCURACY * len(labels)
    limit = torch.inf  # of the loss
    for rate in _OVERFIT_RATES:
        learner: Any = deepcopy(plain)
        compute_frozen_once(learner)
        outputs = _keep_logits(learner, images)
        optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=rate)
        for step in range(_OVERFIT_STEPS + 1):
            outputs.clear()
            loss = training_loss(learner, (images, labels))
            with torch.no_grad():
                logits = outputs[0] if outputs else learner(images)
                value = float(learner.loss(logits, labels))
            here = _Overfitted(int((logits.argmax(1) == labels).sum()), value, step, rate)
            limit = min(limit, _OVERFIT_LOSS * value) if step == 0 else limit
            report(f"{here.correct} of {len(labels)} images after {count(step, 'step')} at learning rate {rate:g}")
            best = max(best, here, key=lambda found: (found.correct, -found.loss))
            if not loss.requires_grad or not bool(loss.isfinite()):
                break
            if best.correct == len(labels) and best.loss <= limit:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if best.correct >= needed and best.loss <= limit:
            break
    figures = f"overfit {best.correct} of {len(labels)} training images"
    if best.correct < needed:
        return Result("overfitting", False, f"{figures} (limit {_OVERFIT_ACCURACY:.0%})")
    if not best.loss <= limit:
        return Result(
            "overfitting", False, f"{figures}, but their loss falls only to {best.loss:.4f} (limit {limit:.4f})"
        )
    return Result("overfitting", True, f"{figures} in {count(best.step, 'step')} of Adam, learning rate {best.rate:g}")


class _Overfitted(NamedTuple):
    """Correct images and their loss after a number of steps."""

    correct: int
    loss: float
    step: int
    rate: float


def _keep_logits(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Returns a list to which the model adds its logits (B, K) of exactly these images, so that a step needs one pass.

    A training step that mixes images has no such logits.
    """
    outputs: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...], logits: Tensor) -> None:
        if inputs and inputs[0] is images:
            outputs.append(logits.detach())

    model.register_forward_hook(keep)
    return outputs


def check_splits(splits: Mapping[str, Split]) -> Result:
    """Counts identical images in two of the splits `train`, `val` and `test`, images (N, ...)."""
    digests = {name: [_digest(image) for image in images] for name, (images, _) in splits.items()}
    passed, overlaps = True, []
    for name, within in (("val", "train"), ("test", "train"), ("test", "val")):
        if not digests.get(name) or not digests.get(within):
            continue
        known = set(digests[within])
        shared = sum(digest in known for digest in digests[name])
        passed &= shared <= _OVERLAP_TOLERANCE * len(digests[name])
        overlaps.append(f"{shared:,} of {len(digests[name]):,} {name} in {within}")
    if not overlaps:
        return Result("splits", None, "there is only one split")
    return Result("splits", passed, f"{', '.join(overlaps)} (limit {_OVERLAP_TOLERANCE:.0%})")


def _digest(image: Tensor) -> bytes:
    return blake2b(image.contiguous().numpy().data, digest_size=16).digest()


def read_splits(data: Any) -> dict[str, Split]:
    """Returns the splits `train`, `val` and `test` of a data module, unaugmented and before preprocessing.

    Raises:
        ValueError: If the data module does not keep its splits in memory.
    """
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    splits = getattr(data, "splits", None)
    if not isinstance(splits, dict) or "train" not in splits:
        raise UserError(
            f"{type(data).__name__} does not keep its images in memory (`splits`), which the checks need; use a data "
            "set that does, such as CIFAR10, MNIST, Digits or Shapes."
        )
    return splits


def run_checks(
    model: SanityCheckable,
    splits: Mapping[str, Split],
    preprocess: Callable[[Split], Split],
    report: Report = lambda _: None,
) -> Iterable[Result]:
    """Runs all checks and yields each result as soon as it is available; on the CPU, for the same results everywhere.

    Args:
        model: Untrained model; it is not changed.
        splits: `train`, and `val` and `test` if they exist: images (N, ...), labels (N,) int64.
        preprocess: Function from a batch of a split to the model's input.
        report: Called with the current check and its progress.
    """
    images, labels = splits["train"]
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(torch.initial_seed()))
    sizes = check_sizes(model, preprocess((images[drawn[:2]], labels[drawn[:2]]))[0])
    several, few, tiny = (
        preprocess((images[drawn[:n]], labels[drawn[:n]])) for n in (500, sizes.overfitting, sizes.gradients)
    )
    report("initial loss")
    yield check_initial_loss(model, *several)
    yield check_gradients(model, *tiny, lambda text: report(f"gradients: {text}"), sizes.coordinates)
    report("parameters")
    yield check_parameters(model, *few)
    report("evaluation")
    yield check_evaluation(model, *few)
    yield check_overfitting(model, *few, lambda text: report(f"overfitting: {text}"))
    report("splits")
    yield check_splits(splits)
