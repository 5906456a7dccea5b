"""The fully connected net against its formula in float64: affine, normalization, ReLU, dropout, loss."""

from itertools import pairwise
from math import log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import FullyConnectedNet
from pipelines.checks.gradient_checks import check_gradients

B, D, K = 8, 5, 4


def random_net(seed: int, **settings: object) -> FullyConnectedNet:
    torch.manual_seed(seed)
    model = FullyConnectedNet((D,), K, hidden_sizes=[6, 7, 3], **settings).double()  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    return model


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_logits_and_loss_equal_the_formula(normalization: str, seed: int) -> None:
    model = random_net(seed, normalization=normalization, reg=0.3)
    images, labels = torch.randn(B, D, dtype=torch.float64), torch.randint(K, (B,))
    h, squares = images, torch.zeros((), dtype=torch.float64)
    layers = [layer for layer in model.layers if not isinstance(layer, nn.ReLU | nn.Dropout | nn.Identity)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            a = h @ layer.weight.T + layer.bias
            squares = squares + (layer.weight**2).sum()
        else:
            over = 0 if normalization == "batch" else 1
            mean = a.mean(over, keepdim=True)
            variance = ((a - mean) ** 2).mean(over, keepdim=True)
            a = layer.weight * (a - mean) / (variance + 1e-5).sqrt() + layer.bias  # type: ignore[operator]
        if layer is not layers[-1] and (normalization == "none" or not isinstance(layer, nn.Linear)):
            h = a.clamp(min=0)
    logits = model(images)
    torch.testing.assert_close(logits, a, rtol=1e-12, atol=1e-12)
    expected = -F.log_softmax(a, 1)[range(B), labels].mean() + 0.5 * 0.3 * squares
    torch.testing.assert_close(model.loss(logits, labels), expected, rtol=1e-12, atol=1e-12)


def test_inverted_dropout() -> None:
    """Kept units are divided by p, a share p of them is kept, and evaluation drops nothing."""
    p = 0.7
    torch.manual_seed(0)
    dropout = next(la for la in FullyConnectedNet((D,), K, [4], dropout=1 - p).layers if isinstance(la, nn.Dropout))
    a = torch.rand(500, 400, dtype=torch.float64) + 0.5
    out: Tensor = dropout(a)
    kept = out != 0
    torch.testing.assert_close(out[kept], a[kept] / p, rtol=1e-15, atol=0.0)
    assert kept.double().mean().item() == pytest.approx(p, abs=0.005)  # 4.9 standard deviations
    assert torch.equal(dropout.eval()(a), a)


@pytest.mark.parametrize(
    "settings", [{}, {"normalization": "batch"}, {"normalization": "layer"}, {"dropout": 0.4, "reg": 0.1}]
)
def test_gradients(settings: dict[str, object]) -> None:
    model = random_net(1, **settings).float()
    result = check_gradients(model, torch.randn(B, D), torch.randint(K, (B,)))
    assert result.passed, result.figures


def test_start_and_shapes() -> None:
    torch.manual_seed(0)
    sizes = [3072, 300, 200, 100]
    model = FullyConnectedNet((3, 32, 32), 10, sizes[1:])
    stds = [layer.weight.std().item() for layer in model.affine]
    for layer, (fan_in, width), std in zip(model.affine, pairwise([*sizes, 10]), stds, strict=True):
        assert layer.weight.shape == (width, fan_in)
        assert std == pytest.approx((2 / fan_in) ** 0.5 * (0.1 if width == 10 else 1), rel=0.06)
    images, labels = torch.randn(100, 3, 32, 32), torch.randint(10, (100,))
    assert model.loss(model(images), labels).item() == pytest.approx(log(10), rel=0.05)
    assert model.templates().shape == (300, 3, 32, 32)
    assert len(FullyConnectedNet((4,), 3, []).affine) == 1


def test_a_batch_of_one_under_batch_normalization() -> None:
    model = FullyConnectedNet((D,), K, [4], normalization="batch")
    with pytest.raises(ValueError, match=r"training batch of one image.* use a batch_size of 2 or more"):
        model(torch.randn(1, D))
    assert model.eval()(torch.randn(1, D)).shape == (1, K)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hidden_sizes": [4, 0]}, r"hidden_sizes is \[4, 0\]; it must be at least 1 unit"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must be in \[0, 1\)"),
        ({"dropout": -0.2}, r"dropout is -0.2; it must be in \[0, 1\)"),
        ({"reg": -1.0}, "reg is -1.0; it must be ≥ 0"),
        ({"weight_scale": -1.0}, "weight_scale is -1.0; it must be > 0, such as 0.001"),
        ({"normalization": "group"}, "normalization is 'group'; it must be none, batch or layer"),
    ],
)
def test_refusals(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        FullyConnectedNet((D,), K, **settings)  # type: ignore[arg-type]
