"""Gradients of normalization by hand."""

import pytest
import torch.nn.functional as F

from modules.networks.normalization_gradients import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    spatial_batch_norm,
    spatial_batch_norm_backward,
    standardize,
    standardize_backward,
)
from tests.modules.gradients import assert_gradients, tensors


def test_batch_norm() -> None:
    x, gamma, beta = tensors((7, 4), (4,), (4,))
    assert_gradients(
        batch_norm,
        lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, training=True),
        lambda dy: batch_norm_backward(dy, x, gamma),
        x,
        gamma,
        beta,
    )


def test_layer_norm() -> None:
    x, gamma, beta = tensors((7, 4), (4,), (4,))
    assert_gradients(
        layer_norm,
        lambda x, gamma, beta: F.layer_norm(x, (4,), gamma, beta),
        lambda dy: layer_norm_backward(dy, x, gamma),
        x,
        gamma,
        beta,
    )


def test_spatial_batch_norm() -> None:
    x, gamma, beta = tensors((3, 4, 5, 2), (4,), (4,))
    assert_gradients(
        spatial_batch_norm,
        lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, training=True),
        lambda dy: spatial_batch_norm_backward(dy, x, gamma),
        x,
        gamma,
        beta,
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(groups: int) -> None:
    x, gamma, beta = tensors((3, 4, 5, 2), (4,), (4,))
    assert_gradients(
        lambda x, gamma, beta: group_norm(x, gamma, beta, groups),
        lambda x, gamma, beta: F.group_norm(x, groups, gamma, beta),
        lambda dy: group_norm_backward(dy, x, gamma, groups),
        x,
        gamma,
        beta,
    )


def test_the_gradient_has_no_component_along_a_shift_or_a_scaling() -> None:
    x, dy = tensors((7, 4), (7, 4))
    x_hat, inverse = standardize(x * 100)  # ε is negligible
    dx = standardize_backward(dy, x_hat, inverse)
    assert float(dx.sum(0).abs().max()) < 1e-12
    assert float((dx * x_hat).sum(0).abs().max()) < 1e-8
