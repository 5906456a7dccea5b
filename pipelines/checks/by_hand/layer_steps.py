"""The step of each kind of layer by hand: the forward pass, and the function that backpropagates through it.

    y, backward = step(layer, x, gradients)
    dx = backward(dy)                          adds the gradients of the layer's parameters to `gradients`

The formulas are those of `layer_gradients.py`, `normalization_gradients.py` and `convolution_gradients.py` in
`modules/networks`. Here they are only called in order: forward from the first layer to the last, backward from the last
to the first. Autograd is not used.

Shapes: B samples in a batch, D values, C channels, H×W positions.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.networks.convolution_gradients import (
    convolution,
    convolution_backward,
    max_pooling,
    max_pooling_backward,
)
from modules.networks.layer_gradients import (
    affine,
    affine_backward,
    dropout,
    dropout_backward,
    relu,
    relu_backward,
)
from modules.networks.normalization_gradients import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    spatial_batch_norm,
    spatial_batch_norm_backward,
)

Backward = Callable[[Tensor], Tensor]  # from the gradient of an output to that of the input, of the same shapes


class Gradients:
    """Gradients of parameters by hand; a parameter that is used several times gets their sum.

    Attributes:
        of: Gradient of each parameter, of its shape.
        functions: Names of the functions that computed it.
    """

    def __init__(self) -> None:
        self.of: dict[Tensor, Tensor] = {}
        self.functions: dict[Tensor, list[str]] = {}

    def add(self, parameter: Tensor | None, gradient: Tensor, function: str) -> None:
        """Adds a gradient of a parameter; None is a bias that a layer lacks."""
        if parameter is None:
            return
        self.of[parameter] = self.of.get(parameter, 0) + gradient
        functions = self.functions.setdefault(parameter, [])
        if function not in functions:
            functions.append(function)


def steps(layers: Iterable[nn.Module], x: Tensor, gradients: Gradients) -> tuple[Tensor, Backward]:
    """Applies layers one after the other; the backward pass goes from the last to the first."""
    backwards = []
    for layer in layers:
        x, layer_backward = step(layer, x, gradients)
        backwards.append(layer_backward)
    return x, from_last_to_first(backwards)


def from_last_to_first(backwards: Sequence[Backward]) -> Backward:
    """Returns the backward pass of steps that were applied one after the other (the chain rule)."""

    def backward(dy: Tensor) -> Tensor:
        for step_backward in reversed(backwards):
            dy = step_backward(dy)
        return dy

    return backward


def step(layer: nn.Module, x: Tensor, gradients: Gradients) -> tuple[Tensor, Backward]:
    """Applies a layer to inputs (B, ...) in training mode.

    Raises:
        ValueError: If there is no gradient by hand of that kind of layer.
    """
    match layer:
        case nn.Identity():
            return x, lambda dy: dy
        case nn.Linear():
            return _affine(layer, x, gradients)
        case nn.ReLU():
            return relu(x), lambda dy: relu_backward(dy, x)
        case nn.Dropout():
            return _dropout(layer, x)
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.LayerNorm() | nn.GroupNorm():
            return _normalization(layer, x, gradients)
        case nn.Conv2d():
            return _convolution(layer, x, gradients)
        case nn.MaxPool2d():
            return _max_pooling(layer, x)
    raise UserError(f"There is no gradient by hand of {type(layer).__name__}; choose settings without that layer.")


def _affine(layer: nn.Linear, x: Tensor, gradients: Gradients) -> tuple[Tensor, Backward]:
    flat = x.flatten(0, -2)  # (B·…, D): each position of a sequence is a sample

    def backward(dy: Tensor) -> Tensor:
        dx, dweight, dbias = affine_backward(dy.flatten(0, -2), flat, layer.weight)
        gradients.add(layer.weight, dweight, "affine_backward")
        gradients.add(layer.bias, dbias, "affine_backward")
        return dx.reshape(x.shape)

    return affine(flat, layer.weight, layer.bias).unflatten(0, x.shape[:-1]), backward


def _dropout(layer: nn.Dropout, x: Tensor) -> tuple[Tensor, Backward]:
    mask = layer(torch.ones_like(x)).ne(0).to(x.dtype)  # the same random numbers as for x
    return dropout(x, mask, layer.p), lambda dy: dropout_backward(dy, mask, layer.p)


def _normalization(layer: nn.Module, x: Tensor, gradients: Gradients) -> tuple[Tensor, Backward]:
    gamma: nn.Parameter = layer.weight  # type: ignore[assignment]
    beta: nn.Parameter = layer.bias  # type: ignore[assignment]
    values = x
    match layer:
        case nn.BatchNorm1d():
            y, name, of_layer = batch_norm(x, gamma, beta), "batch_norm_backward", batch_norm_backward
        case nn.BatchNorm2d():
            y, name = spatial_batch_norm(x, gamma, beta), "spatial_batch_norm_backward"
            of_layer = spatial_batch_norm_backward
        case nn.GroupNorm(num_groups=groups):
            y, name = group_norm(x, gamma, beta, groups), "group_norm_backward"

            def of_layer(dy: Tensor, x: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                return group_norm_backward(dy, x, gamma, groups)

        case _:
            values = x.flatten(0, -2)  # (B·…, D): each position of a sequence has its own mean and variance
            y, name = layer_norm(values, gamma, beta).reshape(x.shape), "layer_norm_backward"
            of_layer = layer_norm_backward

    def backward(dy: Tensor) -> Tensor:
        dx, dgamma, dbeta = of_layer(dy.reshape(values.shape), values, gamma)
        gradients.add(gamma, dgamma, name)
        gradients.add(beta, dbeta, name)
        return dx.reshape(x.shape)

    return y, backward


def _convolution(layer: nn.Conv2d, x: Tensor, gradients: Gradients) -> tuple[Tensor, Backward]:
    padding, stride = int(layer.padding[0]), layer.stride[0]
    bias = x.new_zeros(layer.out_channels) if layer.bias is None else layer.bias

    def backward(dy: Tensor) -> Tensor:
        dx, dweight, dbias = convolution_backward(dy, x, layer.weight, padding, stride)
        gradients.add(layer.weight, dweight, "convolution_backward")
        gradients.add(layer.bias, dbias, "convolution_backward")
        return dx

    return convolution(x, layer.weight, bias, padding, stride), backward


def _max_pooling(layer: nn.MaxPool2d, x: Tensor) -> tuple[Tensor, Backward]:
    side = int(layer.kernel_size)  # type: ignore[arg-type]
    rows, columns = (length % side for length in x.shape[2:])  # the last ones of an odd length are in no square
    inside = x[:, :, : x.shape[2] - rows, : x.shape[3] - columns]
    return max_pooling(inside, side), lambda dy: F.pad(max_pooling_backward(dy, inside, side), (0, columns, 0, rows))
