"""The two-layer net's scores, loss and gradients against NumPy in float64, written out by hand."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch

from modules import TwoLayerNet

B, H, K = 6, 7, 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reg", [0.0, 0.5])
def test_loss_and_gradients_equal_the_formula(seed: int, reg: float) -> None:
    torch.manual_seed(seed)
    model = TwoLayerNet((3, 2, 2), K, hidden_size=H, reg=reg, weight_scale=0.5).double()
    for layer in (model.hidden, model.output):
        torch.nn.init.normal_(layer.bias)
    images, labels = torch.randn(B, 3, 2, 2, dtype=torch.float64), torch.randint(K, (B,))
    logits = model(images)
    loss = model.loss(logits, labels)
    loss.backward()

    (w1, b1), (w2, b2) = ((la.weight.detach().numpy(), la.bias.detach().numpy()) for la in (model.hidden, model.output))
    x, y = images.flatten(1).numpy(), labels.numpy()
    a = x @ w1.T + b1
    h = np.maximum(a, 0)
    s = h @ w2.T + b2
    p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    expected = -np.log(p[np.arange(B), y]).mean() + 0.5 * reg * ((w1**2).sum() + (w2**2).sum())
    ds = (p - np.eye(K)[y]) / B
    da = (ds @ w2) * (a > 0)

    np.testing.assert_allclose(logits.detach(), s, rtol=1e-12)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    gradients: list[tuple[Any, np.ndarray]] = [
        (model.output.weight.grad, ds.T @ h + reg * w2),
        (model.output.bias.grad, ds.sum(0)),
        (model.hidden.weight.grad, da.T @ x + reg * w1),
        (model.hidden.bias.grad, da.sum(0)),
    ]
    for got, gradient in gradients:
        np.testing.assert_allclose(got, gradient, rtol=1e-9, atol=1e-14)


def test_start() -> None:
    torch.manual_seed(0)
    model = TwoLayerNet((3, 32, 32), 10, hidden_size=400)
    assert model.hidden.weight.std().item() == pytest.approx((2 / 3072) ** 0.5, rel=0.01)
    assert model.output.weight.std().item() == pytest.approx(0.1 * (2 / 400) ** 0.5, rel=0.1)
    images, labels = torch.randn(200, 3, 32, 32), torch.randint(10, (200,))
    model.reg = 0.0
    assert model.loss(model(images), labels).item() == pytest.approx(log(10), rel=0.05)
    assert model.expected_initial_loss() == log(10)
    assert TwoLayerNet((4,), 3, weight_scale=0.5).expected_initial_loss() is None


def test_templates_are_the_first_layers_weights() -> None:
    model = TwoLayerNet((3, 4, 5), K, hidden_size=H)
    assert model.templates().shape == (H, 3, 4, 5)
    assert model.templates()[2, 1, 3, 4] == model.hidden.weight[2, 1 * 20 + 3 * 5 + 4]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hidden_size": 0}, "hidden_size is 0; it must be at least 1"),
        ({"reg": -1.0}, "reg is -1.0; it must be ≥ 0"),
        ({"reg": float("nan")}, "reg is nan; it must be ≥ 0"),
        ({"weight_scale": 0.0}, "weight_scale is 0.0; it must be > 0, such as 0.001"),
    ],
)
def test_refusals(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TwoLayerNet((4,), 3, **settings)  # type: ignore[arg-type]
