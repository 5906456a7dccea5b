"""Compares the gradients of a topic by hand with autograd's and with central differences, in float64.

Each topic's backpropagation by hand is in `classifier_steps.py`, `captioner_steps.py` and `transformer_steps.py`; the
table below chooses it by the class of the model. It covers the whole path from the loss to every parameter.

Shapes: B samples in a batch.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from modules import (
    CaptionLSTM,
    CaptionRNN,
    CaptionTransformer,
    ConvNet,
    FullyConnectedNet,
    LinearSVM,
    SoftmaxRegression,
    TwoLayerNet,
)
from modules.captioning.captioner import Captioner
from pipelines.checks.by_hand.captioner_steps import recurrent_captioner_by_hand
from pipelines.checks.by_hand.classifier_steps import classifier_by_hand
from pipelines.checks.by_hand.layer_steps import Gradients
from pipelines.checks.by_hand.transformer_steps import transformer_by_hand
from pipelines.checks.gradient_checks import GRADIENT_TOLERANCE, TrainingLoss, add_noise, relative_error
from pipelines.checks.sanity_checkable import Report, Result, Split, without_regularization
from pipelines.run.topics import CONFIGS, topics

ByHand = Callable[[Any, Split, Gradients], Tensor]  # adds the gradients of a model's loss of a batch, returns the loss

BY_HAND: dict[type, ByHand] = {
    **dict.fromkeys((LinearSVM, SoftmaxRegression, TwoLayerNet, FullyConnectedNet, ConvNet), classifier_by_hand),
    CaptionRNN: recurrent_captioner_by_hand,
    CaptionLSTM: recurrent_captioner_by_hand,
    CaptionTransformer: transformer_by_hand,
}
AUTOGRAD_TOLERANCE = 1e-8  # relative error; both sides are exact up to rounding
_SMALL = 1e-6  # times the loss; a gradient that is 0 by symmetry, as before batch norm, is rounding error alone
_COORDINATES = 5  # of each parameter that are compared with central differences


def find_by_hand(model: Any) -> ByHand:
    """Returns the function that computes the gradients of a model by hand.

    Raises:
        ValueError: If there is none; names the topics that have one.
    """
    for kind, by_hand in BY_HAND.items():
        if type(model) is kind:
            return by_hand
    raise UserError(
        f"There are no gradients by hand of {type(model).__name__}; leave out --by-hand, or use one of "
        f"{', '.join(_topics_by_hand())}."
    )


def _topics_by_hand() -> list[str]:
    texts = {topic: (CONFIGS / f"{topic}.yaml").read_text() for topic in topics()}
    classes = [f"class_path: modules.{kind.__name__}\n" for kind in BY_HAND]
    return [topic for topic, text in texts.items() if any(name in text for name in classes)]


def compare_by_hand(model: Any, batch: Split, report: Report = lambda _: None) -> Iterator[Result]:
    """Yields a result for the loss and for each parameter, last layer first, as backpropagation reaches them.

    Classifiers keep their dropout, with the same mask in all three; of captioners, dropout and label smoothing are off.
    Noise is added to the parameters, as in the gradient check, so that they do not lie on kinks.

    Args:
        model: Untrained model; it is not changed.
        batch: Small batch of preprocessed inputs.
        report: Called with the name of each parameter when its comparison starts.

    Raises:
        ValueError: If there are no gradients of the model by hand.
    """
    by_hand = find_by_hand(model)
    captioner = isinstance(model, Captioner)
    copy: Any = without_regularization(model) if captioner else deepcopy(model)
    copy = copy.double().train()
    batch = tuple(part.double() if part.is_floating_point() else part for part in batch)  # type: ignore[assignment]
    loss_of = TrainingLoss(copy, batch)
    add_noise(loss_of.trainable.values())
    names: dict[Tensor, str] = {parameter: name for name, parameter in loss_of.trainable.items()}
    gradients = Gradients()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the masks of dropout that the training step draws
        loss = float(by_hand(copy, batch, gradients))
    here = float(loss_of.backward().detach())
    off = abs(loss - here) / abs(here)
    yield Result("loss", off <= AUTOGRAD_TOLERANCE, f"{loss:>10.4f}   {off:>8.0e}")
    floor = _SMALL * max(1.0, abs(here))
    for parameter, gradient in gradients.of.items():
        name = names[parameter]
        report(name)
        automatic = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        largest = float(gradient.abs().max())
        to_autograd = float((gradient - automatic).abs().max()) / max(largest, float(automatic.abs().max()), floor)
        errors = []
        for i in torch.randperm(gradient.numel())[: 5 * _COORDINATES].tolist():
            error = relative_error(loss_of, parameter, i, here, gradient)
            if error is not None:  # None on a kink
                errors.append(error)
            if len(errors) == _COORDINATES:
                break
        worst = max(errors, default=torch.inf)
        passed = to_autograd <= AUTOGRAD_TOLERANCE and worst <= GRADIENT_TOLERANCE
        figures = (
            f"{largest:>10.1e}   {to_autograd:>8.0e}   {worst:>18.0e}   {', '.join(gradients.functions[parameter])}"
        )
        yield Result(name, passed, figures)
    for parameter, name in names.items():
        if parameter not in gradients.of:
            yield Result(name, False, "no gradient by hand")
