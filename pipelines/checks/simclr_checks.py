"""Sanity checks of SimCLR before training: loss, gradients, parameters and overfitting of a few images.

    initial loss   NT-Xent of 2B equal projections is ln(2B − 1): every other view is equally likely. At first the
                   projections of different images hardly differ, and the loss of the model lies between 0 and that. It
                   is NT-Xent of the model's projections by an independent formula.
    gradients      backpropagation against central differences (`gradient_checks.py`)
    parameters     every parameter receives a finite, nonzero gradient
    overfitting    the loss of 16 images falls halfway from that of equal projections to its minimum

Source: T. Chen et al., arXiv 2002.05709, equation (1).

Shapes: B images of a batch, each with two views (B, 2, C, H, W).
"""

from collections.abc import Iterable
from copy import deepcopy
from math import exp, inf, log, log1p
from typing import Any

import torch
from torch import Tensor

from modules.contrastive.simclr import SimCLR
from pipelines.checks.check_sizes import SMALL, check_sizes
from pipelines.checks.gradient_checks import check_gradients, check_parameters
from pipelines.checks.sanity_checkable import Report, Result
from pipelines.console.formatting import count

_LOSS_TOLERANCE = 1e-4
_STEP_TOLERANCE = 1e-2  # relative; projections of images that hardly differ are inaccurate in float32
_IMAGES = 16
_STEPS = 300
_RATE = 1e-3


def check_nt_xent(model: SimCLR, views: Tensor) -> Result:
    """Compares the loss of equal projections with ln(2B − 1), and the untrained model's with its bound.

    Args:
        model: Untrained model; it is not changed.
        views: Views (B, 2, C, H, W).
    """
    expected = log(2 * len(views) - 1)
    equal = torch.ones(len(views), 8)
    with torch.no_grad():
        found = float(model.nt_xent(equal, equal))
        copy = deepcopy(model).train()
        initial = float(copy.training_step((views, torch.zeros(len(views))), 0))
        projections = copy.projector(copy.features(torch.cat([views[:, 0], views[:, 1]]))).double()
        formula = _nt_xent(projections[: len(views)], projections[len(views) :], copy.nt_xent.temperature)
    if not abs(initial - formula) <= _STEP_TOLERANCE * formula:
        figures = f"training_step returns {initial:.4f}, NT-Xent of its projections is {formula:.4f}"
        return Result("initial loss", False, figures)
    off = abs(found - expected) / expected
    passed = off <= _LOSS_TOLERANCE and 0 < initial <= 1.1 * expected
    return Result(
        "initial loss",
        passed,
        f"{initial:.4f}, at most {expected:.4f}; of equal projections {found:.4f}, expected {expected:.4f}",
    )


def _nt_xent(first: Tensor, second: Tensor, temperature: float) -> float:
    """Returns NT-Xent of projections of the first and the second views (B, D), by equation (1) as it stands."""
    z = torch.cat([first, second])
    z = z / z.norm(dim=1, keepdim=True)
    exponentials = (z @ z.T / temperature).exp().fill_diagonal_(0)  # (2B, 2B), without k = i
    positives = (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))  # (B,)
    return float(exponentials.sum(1).log().mean() - positives.mean() / temperature)


def check_overfitting(model: SimCLR, views: Tensor, report: Report = lambda _: None) -> Result:
    """Trains on the same views until the loss is halfway from that of equal projections to its minimum.

    The loss is smallest if both views of an image have the same projection and those of B images are as far apart as B
    unit vectors can be, with cosine −1 / (B − 1).

    Args:
        model: Untrained model; it is not changed.
        views: Views (B, 2, C, H, W).
        report: Called with the loss after each step.
    """
    learner = deepcopy(model).train()
    optimizer = torch.optim.Adam(learner.parameters(), lr=_RATE)
    images, temperature = len(views), model.nt_xent.temperature
    smallest = log1p((2 * images - 2) * exp(-(1 + 1 / (images - 1)) / temperature))
    limit = (log(2 * images - 1) + smallest) / 2
    value = inf
    for step in range(_STEPS + 1):
        loss = learner.training_step((views, torch.zeros(images)), 0)
        value = float(loss.detach())
        report(f"overfitting: loss {value:.3f} after {count(step, 'step')}")
        if not value > limit:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    figures = f"loss {value:.4f} on {images} images in {count(step, 'step')} of Adam, learning rate {_RATE:g}"
    return Result("overfitting", value <= limit, f"{figures} (limit {limit:.4f})")


def run_simclr_checks(model: SimCLR, data: Any, report: Report = lambda _: None) -> Iterable[Result]:
    """Runs all checks on the first training batch and yields each result as soon as it is available.

    Args:
        model: Untrained model; it is not changed.
        data: Data module with two views of each image.
        report: Called with the current check and its progress.
    """
    data.prepare_data()
    data.setup("fit")
    data.batch_size = _IMAGES
    views, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    report("initial loss")
    yield check_nt_xent(model, views)
    checked: Any = model
    sizes = check_sizes(model, views[:, 0])
    few = 4 if sizes == SMALL else sizes.gradients
    yield check_gradients(
        checked, views[:few], labels[:few], lambda text: report(f"gradients: {text}"), sizes.coordinates
    )
    report("parameters")
    yield check_parameters(checked, views, labels)
    yield check_overfitting(model, views, report)
