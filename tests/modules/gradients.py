"""Compares gradients by hand with automatic differentiation of torch's own layer, and with finite differences."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_STEP = 1e-6


def tensors(*shapes: Sequence[int]) -> list[Tensor]:
    """Random float64 tensors, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(tuple(shape), generator=generator, dtype=torch.float64) for shape in shapes]


def assert_gradients(
    forward: Callable[..., Tensor],
    reference: Callable[..., Tensor],
    backward: Callable[[Tensor], Sequence[Tensor]],
    *inputs: Tensor,
) -> None:
    """Asserts that the forward pass is torch's, and that the gradients are those of torch and of finite differences.

    Args:
        forward: The forward pass by hand of the inputs.
        reference: torch's function of the same inputs.
        backward: The gradients by hand with respect to each input, for the gradient of the result.
        inputs: float64 tensors.
    """
    result = forward(*inputs)
    torch.testing.assert_close(result, reference(*inputs), rtol=1e-12, atol=1e-12)
    (upstream,) = tensors(result.shape)
    found = backward(upstream)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    expected = torch.autograd.grad(reference(*leaves), leaves, upstream)
    assert len(found) == len(expected)
    for index, (gradient, wanted) in enumerate(zip(found, expected, strict=True)):
        assert gradient.shape == inputs[index].shape
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)
        flat = inputs[index].flatten()
        for coordinate in torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:5].tolist():
            values = []
            for step in (_STEP, -_STEP):
                moved = flat.clone()
                moved[coordinate] += step
                changed = [*inputs[:index], moved.view_as(inputs[index]), *inputs[index + 1 :]]
                values.append(forward(*changed))
            numeric = float(((values[0] - values[1]) * upstream).sum()) / (2 * _STEP)
            assert abs(numeric - float(gradient.flatten()[coordinate])) <= 1e-7 * max(1.0, abs(numeric))
