"""The linear SVM's loss and gradients against a float64 loop over images and classes, and against torch's own hinge."""

from math import inf, nan

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import LinearSVM

Matrix = list[list[float]]
B, K = 6, 5


def hinge_by_loops(
    weights: Matrix, bias: list[float], images: Matrix, labels: list[int], margin: float, reg: float
) -> tuple[float, Matrix, list[float]]:
    """Loss, its gradient in the weights (K, D) and in the bias (K,), in plain Python."""
    loss = 0.0
    weight_gradient = [[reg * w for w in row] for row in weights]
    bias_gradient = [0.0] * len(weights)
    for x, y in zip(images, labels, strict=True):
        scores = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weights, bias, strict=True)]
        for j in range(len(weights)):
            violation = scores[j] - scores[y] + margin
            if j == y or violation <= 0:
                continue
            loss += violation / len(images)
            for place, sign in ((j, 1), (y, -1)):
                bias_gradient[place] += sign / len(images)
                for d, v in enumerate(x):
                    weight_gradient[place][d] += sign * v / len(images)
    return loss + 0.5 * reg * sum(w * w for row in weights for w in row), weight_gradient, bias_gradient


def random_problem(seed: int, **settings: float) -> tuple[LinearSVM, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = LinearSVM((3, 2, 2), K, weight_scale=0.5, **settings).double()
    torch.nn.init.normal_(model.linear.bias)
    return model, torch.randn(B, 3, 2, 2, dtype=torch.float64), torch.randint(K, (B,))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("margin", "reg"), [(1.0, 0.0), (1.0, 0.3), (0.25, 0.0), (7.5, 2.0)])
def test_loss_and_gradients_equal_loops(seed: int, margin: float, reg: float) -> None:
    model, images, labels = random_problem(seed, margin=margin, reg=reg)
    loss = model.loss(model(images), labels)
    loss.backward()
    weights, bias = model.linear.weight.tolist(), model.linear.bias.tolist()
    by_loops = hinge_by_loops(weights, bias, images.flatten(1).tolist(), labels.tolist(), margin, reg)
    assert loss.item() == pytest.approx(by_loops[0], rel=1e-12)
    torch.testing.assert_close(model.linear.weight.grad, torch.tensor(by_loops[1], dtype=torch.float64))
    torch.testing.assert_close(model.linear.bias.grad, torch.tensor(by_loops[2], dtype=torch.float64))


@pytest.mark.parametrize("margin", [0.1, 1.0, 4.0])
def test_data_loss_equals_torch(margin: float) -> None:
    """torch divides the sum over classes by their number."""
    model, images, labels = random_problem(5, margin=margin)
    logits = model(images)
    torch.testing.assert_close(
        model.data_loss(logits, labels), K * F.multi_margin_loss(logits, labels, margin=margin), rtol=1e-12, atol=0
    )


def test_loss_is_zero_when_every_margin_is_kept() -> None:
    model = LinearSVM((2,), 3, reg=0.0, margin=1.0)
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 5.0, 4.0]])
    assert model.loss(logits, torch.tensor([0, 1])).item() == 0.0
    assert model.loss(logits, torch.tensor([1, 1])).item() == pytest.approx((2.0 + 0.0) / 2)


@pytest.mark.parametrize("margin", [0.1, 0.7, 1.0, 3.3])
def test_loss_is_exactly_zero_in_batches_of_any_size_when_every_margin_is_kept(margin: float) -> None:
    model = LinearSVM((2,), K, reg=0.0, margin=margin)
    generator = torch.Generator().manual_seed(0)
    for number in range(1, 200):
        labels = torch.randint(K, (number,), generator=generator)
        logits = torch.rand(number, K, generator=generator) + 9 * F.one_hot(labels, K)
        assert model.data_loss(logits, labels).item() == 0.0


def test_loss_of_random_logits_is_never_negative() -> None:
    generator = torch.Generator().manual_seed(1)
    for margin in (1e-8, 1e-3, 1.0, 1e3):
        model = LinearSVM((2,), K, reg=0.0, margin=margin)
        for scale in (1e-3, 1.0, 1e6):
            labels = torch.randint(K, (500,), generator=generator)
            logits = scale * torch.randn(500, K, generator=generator)
            assert all(model.data_loss(logits[i : i + 1], labels[i : i + 1]).item() >= 0 for i in range(500))


@pytest.mark.parametrize(("classes", "margin", "expected"), [(10, 1.0, 9.0), (10, 0.5, 4.5), (2, 3.0, 3.0)])
def test_expected_initial_loss(classes: int, margin: float, expected: float) -> None:
    model = LinearSVM((3, 8, 8), classes, reg=0.0, margin=margin)
    assert model.expected_initial_loss() == expected
    images, labels = torch.randn(200, 3, 8, 8), torch.randint(classes, (200,))
    assert model.loss(model(images), labels).item() == pytest.approx(expected, rel=0.02)


def test_templates_are_the_weights_in_the_shape_of_an_image() -> None:
    model = LinearSVM((3, 4, 5), 7)
    templates = model.templates()
    assert templates.shape == (7, 3, 4, 5)
    assert not templates.requires_grad
    image = torch.randn(1, 3, 4, 5)
    torch.testing.assert_close((templates * image).sum((1, 2, 3))[None] + model.linear.bias, model(image))


def test_bias_starts_at_zero_and_weights_at_their_scale() -> None:
    model = LinearSVM((3, 32, 32), 10, weight_scale=0.02)
    assert model.linear.bias.abs().max().item() == 0
    assert model.linear.weight.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reg": -0.1}, "reg is -0.1; it must be ≥ 0."),
        ({"reg": nan}, "reg is nan; it must be ≥ 0."),
        ({"margin": 0.0}, "margin is 0.0; it must be > 0, such as 1."),
        ({"margin": nan}, "margin is nan; it must be > 0, such as 1."),
        ({"weight_scale": 0.0}, "weight_scale is 0.0; it must be > 0, such as 0.001."),
        ({"weight_scale": -inf}, "weight_scale is -inf; it must be > 0, such as 0.001."),
    ],
)
def test_values_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # the whole message is compared below
        LinearSVM((3, 8, 8), 10, **settings)
    assert str(raised.value) == message


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^num_classes is 1; it must be at least 2\.$"):
        LinearSVM((3, 8, 8), 1)
