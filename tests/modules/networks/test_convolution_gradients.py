"""Gradients of convolution and max pooling by hand."""

import pytest
import torch
import torch.nn.functional as F

from modules.networks.convolution_gradients import (
    convolution,
    convolution_backward,
    max_pooling,
    max_pooling_backward,
)
from tests.modules.gradients import assert_gradients, tensors


@pytest.mark.parametrize(("side", "padding", "stride"), [(3, 1, 1), (3, 0, 1), (1, 0, 1), (5, 2, 1), (3, 1, 2)])
def test_convolution(side: int, padding: int, stride: int) -> None:
    x, weight, bias = tensors((2, 3, 7, 5), (4, 3, side, side), (4,))
    assert_gradients(
        lambda x, weight, bias: convolution(x, weight, bias, padding, stride),
        lambda x, weight, bias: F.conv2d(x, weight, bias, stride, padding),
        lambda dy: convolution_backward(dy, x, weight, padding, stride),
        x,
        weight,
        bias,
    )


@pytest.mark.parametrize("side", [2, 3])
def test_max_pooling(side: int) -> None:
    (x,) = tensors((2, 3, 6, 12))
    assert_gradients(
        lambda x: max_pooling(x, side),
        lambda x: F.max_pool2d(x, side),
        lambda dy: [max_pooling_backward(dy, x, side)],
        x,
    )


def test_of_equal_values_the_first_gets_the_gradient() -> None:
    dx = max_pooling_backward(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 2, 2))
    assert dx.flatten().tolist() == [1.0, 0.0, 0.0, 0.0]
