"""Product of one batch with the weight matrices of N models as a single matrix product, under `torch.func.vmap`.

    Y_n = X W_nᵀ for n = 1 … N    is    Y = X [W_1; …; W_N]ᵀ,
    ∂L_n/∂W_n = (∂L_n/∂Y_n)ᵀ X    is    [∂L_1/∂Y_1 … ∂L_N/∂Y_N]ᵀ X

`vmap` alone makes N narrow products of the first layers, which take about three times as long.

Shapes: N models, B samples in a batch, D values in a sample, K outputs of a layer.
"""

from typing import Any

import torch
from torch import Tensor, nn


def use_shared_products(layer: nn.Linear) -> None:
    """Makes an affine layer compute its product with an input that all models share as one for all of them."""

    def forward(inputs: Tensor) -> Tensor:
        if inputs.ndim != 2:
            return nn.functional.linear(inputs, layer.weight, layer.bias)
        outputs: Tensor = _Product.apply(inputs, layer.weight)
        return outputs if layer.bias is None else outputs + layer.bias

    layer.forward = forward  # type: ignore[method-assign, assignment]


class _Product(torch.autograd.Function):
    """X Wᵀ, (B, K), of X (B, D) and W (K, D)."""

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor) -> Tensor:
        return inputs @ weight.T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        inputs, weight = ctx.saved_tensors
        of_inputs = gradient @ weight if ctx.needs_input_grad[0] else None
        return of_inputs, _WeightGradient.apply(gradient, inputs)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], inputs: Tensor, weight: Tensor) -> tuple[Tensor, int]:
        inputs, weight = _first(inputs, in_dims[0]), _first(weight, in_dims[1])
        if in_dims[0] is None and in_dims[1] is not None:
            outputs = inputs @ weight.flatten(0, 1).T  # (B, N K)
            return outputs.unflatten(1, weight.shape[:2]), 1
        return inputs @ weight.mT, 0


class _WeightGradient(torch.autograd.Function):
    """Gᵀ X, (K, D), of G (B, K) and X (B, D)."""

    @staticmethod
    def forward(gradient: Tensor, inputs: Tensor) -> Tensor:
        return gradient.T @ inputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keeps nothing: a second derivative is not needed."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], gradient: Tensor, inputs: Tensor) -> tuple[Tensor, int]:
        gradient, inputs = _first(gradient, in_dims[0]), _first(inputs, in_dims[1])
        if in_dims[1] is None and in_dims[0] is not None:
            columns = gradient.transpose(0, 1).flatten(1)  # (B, N K)
            return (columns.T @ inputs).unflatten(0, (len(gradient), -1)), 0
        return gradient.mT @ inputs, 0


def _first(tensor: Tensor, dim: int | None) -> Tensor:
    """Returns a tensor with the dimension of the models first, if it has one."""
    return tensor if dim is None else tensor.movedim(dim, 0)
