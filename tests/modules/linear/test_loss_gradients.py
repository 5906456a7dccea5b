"""Gradients of the losses by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import LinearSVM
from modules.linear.loss_gradients import cross_entropy, cross_entropy_backward, hinge_loss, hinge_loss_backward
from tests.modules.gradients import assert_gradients, tensors

LABELS = torch.tensor([2, 0, 3, 3, 1, 2])


@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_hinge_loss(margin: float) -> None:
    svm = LinearSVM((2,), 4, margin=margin)
    (scores,) = tensors((6, 4))
    assert_gradients(
        lambda s: hinge_loss(s, LABELS, margin),
        lambda s: svm.data_loss(s, LABELS),
        lambda upstream: [upstream * hinge_loss_backward(scores, LABELS, margin)],
        scores,
    )
    rows = hinge_loss_backward(scores, LABELS, margin).sum(1)
    torch.testing.assert_close(rows, torch.zeros_like(rows))


def test_the_true_class_counts_the_violated_margins() -> None:
    scores = torch.tensor([[3.2, 5.1, -1.7]])  # the course's cat: only the car violates its margin
    assert hinge_loss(scores, torch.tensor([0])).item() == pytest.approx(2.9)
    assert hinge_loss_backward(scores, torch.tensor([0])).tolist() == [[-1.0, 1.0, 0.0]]


def test_a_margin_that_is_just_kept_has_no_gradient() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 2.0]], requires_grad=True)
    labels = torch.tensor([0, 1])
    LinearSVM((2,), 3).data_loss(scores, labels).backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == hinge_loss_backward(scores.detach(), labels).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_cross_entropy(scale: float) -> None:
    (scores,) = tensors((6, 4))
    scores = scores * scale

    def backward(upstream: Tensor) -> list[Tensor]:
        return [upstream * cross_entropy_backward(scores, LABELS)]

    assert_gradients(lambda s: cross_entropy(s, LABELS), lambda s: F.cross_entropy(s, LABELS), backward, scores)
