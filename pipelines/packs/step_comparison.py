"""Compares the training step of stacked models with the one that each takes by itself.

What a model computes may depend on more than its weights and the numbers in its `stackable`, such as on a number
derived from one of them when the model was made.
"""

from typing import Any

import torch
from torch import Tensor

from modules.base.buffered_metrics import BufferedMetrics
from pipelines.packs.step_function import MemberStep, StepFunction


def difference(model: BufferedMetrics, step: MemberStep, batch: Any, masks: list[Tensor], index: int) -> str | None:
    """Returns in what the step of a stack differs from that which a model takes by itself, None if in nothing."""
    alone = StepFunction(model)
    with alone.given({}, masks), torch.enable_grad():
        loss = alone(batch, index)
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    gradients = torch.autograd.grad(loss, [value for _, value in named], allow_unused=True)
    of_stack = dict(zip([name for name, _ in model.named_parameters()], step.gradients, strict=True))
    tolerance = min(1000 * torch.finfo(loss.dtype).eps, 0.05)
    if not torch.isclose(step.loss, loss.detach(), rtol=tolerance, equal_nan=True):
        return "its loss depends on more than weights, batch and the numbers in stackable"
    for name, value in alone.counted().items():
        # Correct predictions and the like are counted: one more or less of them is rounding.
        if not torch.isclose(step.sums[name].double(), value.double(), tolerance, 1.01, equal_nan=True):
            return f"its {name} depends on more than weights, batch and the numbers in stackable"
    norm = torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm()
    for (name, _), gradient in zip(named, gradients, strict=True):
        if gradient is None:
            return f"its loss does not depend on {name}"
        error = (of_stack[name] - gradient).norm()
        # Rounding is all there is to the gradient of a bias before batch normalization.
        if error > max(tolerance, 0.01) * gradient.norm() + tolerance * norm:  # not if there is a NaN
            return f"the gradient of {name} depends on more than weights, batch and the numbers in stackable"
    return None


def is_of_all_models(value: Any) -> bool:
    """Returns whether an attribute holds a tensor of a stacked computation, which has no values for a single model."""
    if isinstance(value, dict):
        return any(map(is_of_all_models, value.values()))
    if isinstance(value, list | tuple):
        return any(map(is_of_all_models, value))
    return isinstance(value, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(value)
