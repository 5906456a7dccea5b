"""Two checks of a model's gradients before it is trained.

    gradients      backpropagation against central differences (L(w + h) − L(w − h)) / 2h in float64
    parameters     each of them is reached by a finite gradient that is not all zero

Source: https://cs231n.github.io/neural-networks-3/#gradcheck

Shapes: B images in a batch.
"""

from copy import deepcopy
from math import isfinite

import torch
from torch import Tensor, nn

from pipelines.checks.sanity_checkable import (
    Report,
    Result,
    SanityCheckable,
    Split,
    training_loss,
    without_regularization,
)

_GRADIENT_TOLERANCE = 1e-4  # relative error; the course calls 1e-2 wrong, and 1e-4 fine for losses with kinks
_STEP = 1e-5  # h of the central differences
_SMALL_GRADIENT = 1e-5  # below this, times the loss, a difference of float64 losses over h is mostly rounding
_ALL_COORDINATES = 200  # shared among the parameters, so that a deep network takes no longer than a shallow one
_NOISE = 1e-2  # standard deviation of what moves the parameters off the zeros that they start from
_GRADIENT_STEPS = 3  # a layer behind a scale that starts at 0 is reached only after the scale has moved


def check_gradients(model: SanityCheckable, images: Tensor, labels: Tensor, report: Report = lambda _: None) -> Result:
    """Compares backpropagation with central differences at random coordinates of every parameter.

    It is done for the whole loss and for the loss without regularization, since either may drown an error in the other.
    A model as built may sit on kinks: a residual block that starts with a scale of 0 hands exact zeros to its ReLU, and
    a hinge whose margins are all violated never shows its flat side. So it is done at a random point close by. Where
    that lies on a kink too there is no gradient, and another coordinate is drawn.

    Args:
        model: as built; it is left as it is.
        images: (B, ...), a small batch, preprocessed.
        labels: (B,).
        report: told the parameter that is looked at.
    """
    worst, where, compared, kinks = 0.0, "", 0, 0
    for variant in [model, without_regularization(model)][: 2 if getattr(model, "reg", 0) else 1]:
        loss_of = _Loss(deepcopy(variant).double().train(), (images.double(), labels))
        parameters = loss_of.trainable
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.add_(torch.randn_like(parameter), alpha=_NOISE)
        if not parameters:
            return Result("gradients", None, "the model has no parameters to train")
        loss = loss_of.backward()
        if loss.dtype != torch.float64:
            precision = str(loss.dtype).removeprefix("torch.")
            return Result("gradients", False, f"the loss of a float64 model is {precision}: a cast hides the digits")
        wanted = max(2, min(10, _ALL_COORDINATES // len(parameters)))
        for name, parameter in parameters.items():
            report(name)
            found = 0
            for i in torch.randperm(parameter.numel())[: 5 * wanted].tolist():
                error = _relative_error(loss_of, parameter, i, float(loss.detach()))
                if error is None:
                    kinks += 1
                    continue
                found += 1
                if error > worst or not isfinite(error):
                    worst, where = error, f" in {name}"
                if found == wanted or not isfinite(worst):
                    break
            if not found:
                return Result("gradients", False, f"every coordinate of {name} sits on a kink: nothing was compared")
            compared += found
    figures = f"relative error {worst:.1e}{where}, worst of {compared} coordinates, {kinks} on kinks"
    # Few kinks are met by chance; where most coordinates look like one, the loss itself jumps.
    passed = worst <= _GRADIENT_TOLERANCE and kinks <= compared
    return Result("gradients", passed, f"{figures} (limit {_GRADIENT_TOLERANCE:.0e})")


class _Loss:
    """The training loss of one batch as a function of the parameters; random layers draw the same each time."""

    def __init__(self, model: SanityCheckable, batch: Split) -> None:
        self.model, self.batch = model, batch
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def __call__(self) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return training_loss(self.model, self.batch)

    def backward(self) -> Tensor:
        """The loss, after its gradients were put into the parameters."""
        loss = self()
        if loss.requires_grad:  # a model that is cut off from its parameters fails by its figures, not by a traceback
            loss.backward()
        return loss


@torch.no_grad()
def _relative_error(loss_of: _Loss, parameter: nn.Parameter, i: int, here: float) -> float | None:
    """|analytic − numeric| / larger of the two at coordinate `i` of a parameter; None on a kink."""
    gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    values, analytic = parameter.clone(), float(gradient.flatten()[i])
    losses = []
    for step in (_STEP, -_STEP):
        moved = values.flatten().index_add(0, torch.tensor([i]), values.new_tensor([step]))
        parameter.copy_(moved.view_as(values))
        losses.append(float(loss_of()))
    parameter.copy_(values)
    numeric = (losses[0] - losses[1]) / (2 * _STEP)
    difference = abs(analytic - numeric)
    typical = float(gradient.square().mean().sqrt())
    error = difference / max(abs(analytic), abs(numeric), 1e-3 * typical, _SMALL_GRADIENT * max(1.0, abs(here)))
    right, left = (losses[0] - here) / _STEP, (here - losses[1]) / _STEP
    # On a kink backpropagation gives a slope between those on its two sides; a wrong gradient lies outside of them.
    if error > _GRADIENT_TOLERANCE and difference <= abs(right - left):
        return None
    return error


def check_parameters(model: SanityCheckable, images: Tensor, labels: Tensor) -> Result:
    """Looks whether every parameter gets a finite gradient that is not all zero: images (B, ...), labels (B,)."""
    loss_of = _Loss(deepcopy(model).train(), (images, labels))
    if not loss_of.trainable:
        return Result("parameters", None, "the model has none to train")
    norms = dict.fromkeys(loss_of.trainable, 0.0)  # the largest of the steps
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
    unreached = [name for name, norm in norms.items() if not norm]
    if unreached:
        names = ", ".join(unreached[:3]) + (", …" if len(unreached) > 3 else "")
        return Result("parameters", False, f"{len(unreached)} of {len(norms)} get no gradient: {names}")
    figures = f"all {len(norms)} get gradients, of norm {min(norms.values()):.1e} to {max(norms.values()):.1e}"
    return Result("parameters", True, figures)
