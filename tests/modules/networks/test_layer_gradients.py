"""Gradients of affine layers, ReLU and dropout by hand."""

import torch
import torch.nn.functional as F

from modules.networks.layer_gradients import (
    affine,
    affine_backward,
    dropout,
    dropout_backward,
    relu,
    relu_backward,
)
from tests.modules.gradients import assert_gradients, tensors


def test_affine() -> None:
    x, weight, bias = tensors((5, 4), (3, 4), (3,))
    assert_gradients(affine, F.linear, lambda dy: affine_backward(dy, x, weight), x, weight, bias)


def test_relu() -> None:
    (x,) = tensors((5, 4))
    assert_gradients(relu, F.relu, lambda dy: [relu_backward(dy, x)], x)
    assert relu_backward(torch.ones(1), torch.zeros(1)).item() == 0


def test_dropout() -> None:
    (x,) = tensors((50, 40))
    mask = (torch.rand(50, 40, generator=torch.Generator().manual_seed(0)) > 0.3).double()
    assert_gradients(
        lambda x: dropout(x, mask, 0.3),
        lambda x: x * mask / 0.7,
        lambda dy: [dropout_backward(dy, mask, 0.3)],
        x,
    )
    torch.manual_seed(0)
    drawn = F.dropout(x, 0.3)
    torch.testing.assert_close(drawn, dropout(x, (drawn != 0).double(), 0.3))
