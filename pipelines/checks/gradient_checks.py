"""Gradient checks of a model before training.

    gradients      backpropagation against central differences (L(w + h) − L(w − h)) / 2h in float64
    parameters     every parameter receives a finite, nonzero gradient

Source: https://cs231n.github.io/neural-networks-3/#gradcheck

Shapes: B images in a batch.
"""

from collections.abc import Iterable
from copy import deepcopy
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.checks.check_sizes import SMALL
from pipelines.checks.sanity_checkable import (
    Report,
    Result,
    SanityCheckable,
    Split,
    training_loss,
    without_regularization,
)

GRADIENT_TOLERANCE = 1e-4  # relative error; by the course 1e-2 is wrong, and 1e-4 acceptable for losses with kinks
# h of the central differences. A deep network has so many kinks that 1e-5 often crosses several, with slopes on both
# sides that tell nothing; a coordinate that fails is compared again with smaller ones.
_STEPS = (1e-5, 1e-6, 1e-7)
_SMALL_GRADIENT = 1e-5  # times the loss; below it, central differences in float64 are mostly rounding error
_NOISE = 1e-2  # standard deviation of the noise added to the parameters, some of which are initialized with zeros
_GRADIENT_STEPS = 3  # a layer before a scale initialized with 0 gets a gradient only after the scale has changed


def check_gradients(
    model: SanityCheckable,
    images: Tensor,
    labels: Tensor,
    report: Report = lambda _: None,
    coordinates: int = SMALL.coordinates,
) -> Result:
    """Compares backpropagation with central differences at random coordinates of every parameter.

    Checks the full loss and the loss without regularization, because either can hide an error of the other.
    The initial parameters may lie on kinks: a residual block whose scale is initialized with 0 passes exact zeros to
    its ReLU, and a hinge loss with all margins violated never reaches its flat part. So noise is added to the
    parameters first. A coordinate that still lies on a kink has no gradient and is replaced by another one.

    Args:
        model: Untrained model; it is not changed.
        images: Small batch of preprocessed images (B, ...).
        labels: Labels (B,).
        report: Called with the name of each parameter when its check starts.
        coordinates: Number of coordinates over all parameters, so that a deep network takes no longer than a shallow
            one; each parameter has at least one, and at most 10.
    """
    worst, worst_name, compared, kinks = 0.0, "", 0, 0
    for variant in [model, without_regularization(model)][: 2 if getattr(model, "reg", 0) else 1]:
        loss_of = TrainingLoss(deepcopy(variant).double().train(), (images.double(), labels))
        parameters = loss_of.trainable
        add_noise(parameters.values())
        if not parameters:
            return Result("gradients", None, "the model has no parameters to train")
        loss = loss_of.backward()
        if loss.dtype != torch.float64:
            dtype = str(loss.dtype).removeprefix("torch.")
            return Result("gradients", False, f"the loss of a float64 model is {dtype}: a cast loses the precision")
        per_parameter = max(1, min(10, coordinates // len(parameters)))
        for name, parameter in parameters.items():
            report(name)
            smooth = 0  # coordinates that do not lie on a kink
            for i in torch.randperm(parameter.numel())[: 5 * per_parameter].tolist():
                error = relative_error(loss_of, parameter, i, float(loss.detach()))
                if error is None:
                    kinks += 1
                    continue
                smooth += 1
                if error > worst or not isfinite(error):
                    worst, worst_name = error, name
                if smooth == per_parameter or not isfinite(worst):
                    break
            if not smooth:
                return Result("gradients", False, f"every tried coordinate of {name} lies on a kink; none was compared")
            compared += smooth
    in_name = f" in {worst_name}" if worst_name else ""
    figures = f"largest relative error {worst:.1e}{in_name}, of {compared} coordinates; {kinks} more on kinks"
    # Few kinks are met by chance; where most coordinates look like one, the loss itself jumps.
    passed = worst <= GRADIENT_TOLERANCE and kinks <= compared
    return Result("gradients", passed, f"{figures} (limit {GRADIENT_TOLERANCE:.0e})")


@torch.no_grad()
def add_noise(parameters: Iterable[nn.Parameter]) -> None:
    """Adds a little normally distributed noise to parameters, which may be initialized on kinks."""
    for parameter in parameters:
        parameter.add_(torch.randn_like(parameter), alpha=_NOISE)


class TrainingLoss:
    """The training loss of one batch as a function of the parameters, with the same random numbers at every call."""

    def __init__(self, model: SanityCheckable, batch: Split) -> None:
        self.model, self.batch = model, batch
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def __call__(self) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return training_loss(self.model, self.batch)

    def backward(self) -> Tensor:
        """Computes the gradients of the parameters and returns the loss."""
        loss = self()
        if loss.requires_grad:  # a loss that does not depend on the parameters fails the check, without a traceback
            loss.backward()
        return loss


@torch.no_grad()
def relative_error(
    loss_of: TrainingLoss, parameter: Tensor, i: int, here: float, gradient: Tensor | None = None
) -> float | None:
    """Returns |analytic − numeric| / max(|analytic|, |numeric|) at coordinate `i` of a parameter, None on a kink.

    Args:
        loss_of: The loss as a function of the parameters.
        parameter: The parameter; it is moved and restored.
        i: Index of the coordinate in the flattened parameter.
        here: The loss of the parameters as they are.
        gradient: The analytic gradient of the parameter's shape; None takes autograd's.
    """
    if gradient is None:
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    values, analytic = parameter.clone(), float(gradient.flatten()[i])
    typical = float(gradient.square().mean().sqrt())
    error, on_kink = 0.0, False
    for step in _STEPS:
        losses = []
        for signed in (step, -step):
            moved = values.flatten().index_add(0, torch.tensor([i]), values.new_tensor([signed]))
            parameter.copy_(moved.view_as(values))
            losses.append(float(loss_of()))
        parameter.copy_(values)
        numeric = (losses[0] - losses[1]) / (2 * step)
        difference = abs(analytic - numeric)
        error = difference / max(abs(analytic), abs(numeric), 1e-3 * typical, _SMALL_GRADIENT * max(1.0, abs(here)))
        if error <= GRADIENT_TOLERANCE:
            return error
        # On a kink, backpropagation gives a slope between the left and the right one; a wrong gradient lies outside.
        right, left = (losses[0] - here) / step, (here - losses[1]) / step
        on_kink = difference <= abs(right - left)
    return None if on_kink else error


def check_parameters(model: SanityCheckable, images: Tensor, labels: Tensor, may_freeze: bool = False) -> Result:
    """Checks that every parameter receives a finite, nonzero gradient, and that no layer is frozen or used twice.

    A layer that is frozen on purpose, such as a pretrained backbone, is in evaluation mode, so that its running
    averages do not change either. Parameters that are not matrices, such as γ of a normalization, may be frozen.

    Args:
        model: Untrained model; it is not changed.
        images: Preprocessed images (B, ...).
        labels: Labels (B,).
        may_freeze: Whether weights may be frozen in training mode, as those of the other network of a GAN are.
    """
    trained = deepcopy(model).train()
    if any(parameter.requires_grad for parameter in model.parameters()):
        if repeated := _repeated_layers(trained):
            return Result("parameters", False, f"{' and '.join(repeated)} are the same layer, with the same weights")
        if not may_freeze and (frozen := _frozen_weights(trained)):
            names = ", ".join(frozen[:3]) + (", …" if len(frozen) > 3 else "")
            return Result("parameters", False, f"frozen, in training mode: {names}; if meant, keep the layer in eval()")
    loss_of = TrainingLoss(trained, (images, labels))
    if not loss_of.trainable:
        return Result("parameters", None, "the model has no parameters to train")
    norms = dict.fromkeys(loss_of.trainable, 0.0)  # the largest over the steps
    optimizer = torch.optim.Adam(loss_of.trainable.values(), lr=1e-3)
    for _ in range(_GRADIENT_STEPS):
        optimizer.zero_grad()
        loss_of.backward()
        for name, parameter in loss_of.trainable.items():
            norm = 0.0 if parameter.grad is None else float(parameter.grad.norm())
            if not isfinite(norm):
                return Result("parameters", False, f"the gradient of {name} is not finite")
            norms[name] = max(norms[name], norm)
        if all(norms.values()):
            break
        optimizer.step()
    without = [name for name, norm in norms.items() if not norm]
    if without:
        names = ", ".join(without[:3]) + (", …" if len(without) > 3 else "")
        return Result("parameters", False, f"{len(without)} of {len(norms)} get no gradient: {names}")
    figures = f"all {len(norms)} get gradients, with norms from {min(norms.values()):.1e} to {max(norms.values()):.1e}"
    return Result("parameters", True, figures)


def _repeated_layers(model: Any) -> list[str]:
    """Returns both names of a layer with parameters that a list of layers has twice, as `[layer] * 2` makes it."""
    for name, layers in model.named_modules():
        if isinstance(layers, nn.Sequential | nn.ModuleList):
            first: dict[nn.Module, int] = {}
            for index, layer in enumerate(layers):
                earlier = first.setdefault(layer, index)
                if earlier != index and any(True for _ in layer.parameters()):
                    prefix = f"{name}." if name else ""
                    return [f"{prefix}{earlier}", f"{prefix}{index}"]
    return []


def _frozen_weights(model: Any) -> list[str]:
    """Returns the names of weights, of two dimensions or more, that are not trained in a layer in training mode."""
    return [
        f"{name}.{key}" if name else key
        for name, layer in model.named_modules()
        if layer.training
        for key, parameter in layer.named_parameters(recurse=False)
        if parameter.ndim >= 2 and not parameter.requires_grad
    ]
