"""Softmax regression's loss and gradients against a float64 loop, scikit-learn's log loss and torch's cross-entropy."""

from math import exp, log, nan

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss
from torch import Tensor

from modules import SoftmaxRegression

Matrix = list[list[float]]
B, K = 6, 5


def softmax_by_loops(
    weights: Matrix, bias: list[float], images: Matrix, labels: list[int], reg: float
) -> tuple[float, Matrix, list[float]]:
    """Loss, its gradient in the weights (K, D) and in the bias (K,), in plain Python."""
    loss = 0.0
    weight_gradient = [[reg * w for w in row] for row in weights]
    bias_gradient = [0.0] * len(weights)
    for x, y in zip(images, labels, strict=True):
        scores = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weights, bias, strict=True)]
        total = sum(map(exp, scores))
        loss -= log(exp(scores[y]) / total) / len(images)
        for j, score in enumerate(scores):
            slope = (exp(score) / total - (j == y)) / len(images)
            bias_gradient[j] += slope
            for d, v in enumerate(x):
                weight_gradient[j][d] += slope * v
    return loss + 0.5 * reg * sum(w * w for row in weights for w in row), weight_gradient, bias_gradient


def random_problem(seed: int, reg: float = 0.0) -> tuple[SoftmaxRegression, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = SoftmaxRegression((3, 2, 2), K, reg=reg, weight_scale=0.5).double()
    torch.nn.init.normal_(model.linear.bias)
    return model, torch.randn(B, 3, 2, 2, dtype=torch.float64), torch.randint(K, (B,))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reg", [0.0, 0.3, 5.0])
def test_loss_and_gradients_equal_loops(seed: int, reg: float) -> None:
    model, images, labels = random_problem(seed, reg)
    loss = model.loss(model(images), labels)
    loss.backward()
    by_loops = softmax_by_loops(
        model.linear.weight.tolist(), model.linear.bias.tolist(), images.flatten(1).tolist(), labels.tolist(), reg
    )
    assert loss.item() == pytest.approx(by_loops[0], rel=1e-12)
    torch.testing.assert_close(model.linear.weight.grad, torch.tensor(by_loops[1], dtype=torch.float64))
    torch.testing.assert_close(model.linear.bias.grad, torch.tensor(by_loops[2], dtype=torch.float64))


def test_data_loss_equals_scikit_learn_and_torch() -> None:
    model, images, labels = random_problem(7)
    logits = model(images)
    loss = model.data_loss(logits, labels).item()
    scores = logits.detach().numpy()
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert loss == pytest.approx(log_loss(labels.numpy(), probabilities, labels=list(range(K))), rel=1e-12)
    assert loss == pytest.approx(F.nll_loss(logits.log_softmax(1), labels).item(), rel=1e-12)


def test_large_scores_do_not_overflow() -> None:
    model = SoftmaxRegression((2,), 3, reg=0.0)
    logits = torch.tensor([[1e4, 0.0, -1e4]])
    assert model.loss(logits, torch.tensor([0])).item() == 0.0
    assert model.loss(logits, torch.tensor([2])).item() == pytest.approx(2e4)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_expected_initial_loss(classes: int) -> None:
    model = SoftmaxRegression((3, 8, 8), classes, reg=0.0)
    assert model.expected_initial_loss() == pytest.approx(log(classes))
    images, labels = torch.randn(200, 3, 8, 8), torch.randint(classes, (200,))
    assert model.loss(model(images), labels).item() == pytest.approx(log(classes), rel=0.01)


def test_regularization_leaves_the_bias_alone() -> None:
    model, images, labels = random_problem(1)
    plain = model.loss(model(images), labels).item()
    model.reg = 2.0
    assert model.loss(model(images), labels).item() - plain == pytest.approx(model.linear.weight.square().sum().item())


def test_templates_have_the_shape_of_an_image() -> None:
    model = SoftmaxRegression((1, 8, 8), 10)
    assert model.templates().shape == (10, 1, 8, 8)
    torch.testing.assert_close(model.templates().flatten(1), model.linear.weight.detach())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reg": -1.0}, "reg is -1.0; it must be ≥ 0."),
        ({"weight_scale": nan}, "weight_scale is nan; it must be > 0, such as 0.001."),
    ],
)
def test_values_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # the whole message is compared below
        SoftmaxRegression((1, 8, 8), 10, **settings)
    assert str(raised.value) == message
