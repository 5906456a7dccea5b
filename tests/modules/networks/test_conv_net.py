"""The convolutional net against scipy's correlation in float64, and what its layers must keep."""

from math import log

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import Tensor, nn

from modules import ConvNet

K = 4


def convolution(images: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Zero-padded, same size: (B, C, H, W) with (M, C, k, k) to (B, M, H, W)."""
    out = np.zeros((len(images), len(weight), *images.shape[2:]))
    for b, image in enumerate(images):
        for m, kernel in enumerate(weight):
            out[b, m] = sum(correlate2d(plane, k, mode="same") for plane, k in zip(image, kernel, strict=True))
            out[b, m] += 0.0 if bias is None else bias[m]
    return out


def pooled(maps: np.ndarray, pooling: str) -> np.ndarray:
    """Over 2×2 pixels; a last odd row or column is left out."""
    height, width = (side // 2 for side in maps.shape[2:])
    tiles = maps[:, :, : 2 * height, : 2 * width].reshape(*maps.shape[:2], height, 2, width, 2)
    return tiles.max((3, 5)) if pooling == "max" else tiles.mean((3, 5))


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_logits_equal_the_formula(normalization: str, kernel_size: int, pooling: str) -> None:
    torch.manual_seed(0)
    model = ConvNet((3, 9, 8), K, [4, 6], 2, kernel_size, normalization, pooling=pooling).double()  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    images = torch.randn(3, 3, 9, 8, dtype=torch.float64)
    maps = images.numpy()
    found = model.feature_maps(images)
    for number, stage in enumerate(model.stages, start=1):
        layers = list(stage.children())
        convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
        for i, conv in enumerate(convs):
            bias = None if conv.bias is None else conv.bias.detach().numpy()
            maps = convolution(maps, conv.weight.detach().numpy(), bias)
            if norms:
                mean, variance = maps.mean((0, 2, 3), keepdims=True), maps.var((0, 2, 3), keepdims=True)
                gamma, beta = (p.detach().numpy().reshape(1, -1, 1, 1) for p in norms[i].parameters())
                maps = gamma * (maps - mean) / np.sqrt(variance + 1e-5) + beta
            maps = np.maximum(maps, 0)
        maps = pooled(maps, pooling)
        np.testing.assert_allclose(found[f"stage {number}"].detach(), maps, rtol=1e-9, atol=1e-9)
    expected = maps.mean((2, 3)) @ model.output.weight.detach().numpy().T + model.output.bias.detach().numpy()
    np.testing.assert_allclose(model(images).detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "group"])
def test_start_is_level_and_every_parameter_learns(normalization: str) -> None:
    torch.manual_seed(0)
    model = ConvNet((3, 16, 16), 10, [8, 16], normalization=normalization, groups=4)  # type: ignore[arg-type]
    images, labels = torch.randn(32, 3, 16, 16), torch.randint(10, (32,))
    loss: Tensor = model.loss(model(images), labels)
    assert loss.item() == pytest.approx(log(10), rel=0.05)
    assert model.expected_initial_loss() == log(10)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_shapes() -> None:
    model = ConvNet((1, 28, 28), K, [8, 16, 32], convs_per_stage=1, kernel_size=5)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, K)
    assert model.templates().shape == (8, 1, 5, 5)
    shapes = [tuple(maps.shape) for maps in model.feature_maps(torch.randn(2, 1, 28, 28)).values()]
    assert shapes == [(2, 8, 14, 14), (2, 16, 7, 7), (2, 32, 3, 3)]


@pytest.mark.parametrize(
    ("shape", "settings", "sentence"),
    [
        ((3072,), {}, r"takes images \(C, H, W\), but the data has shape \(3072,\)"),
        (
            (3, 8, 8),
            {"channels": [4] * 4},
            "4 stages halve the image 4 times, but it has 8×8 pixels; use at most 3 stages",
        ),
        ((3, 8, 8), {"channels": []}, r"channels is \[\]; it must be at least one stage"),
        ((3, 8, 8), {"channels": [4, 0]}, r"channels is \[4, 0\]; it must be at least one stage"),
        ((3, 8, 8), {"convs_per_stage": 0}, r"convs_per_stage is 0; it must be in \[1, 1000\]"),
        ((3, 8, 8), {"kernel_size": 4}, "kernel_size is 4; it must be odd"),
        ((3, 8, 8), {"pooling": "min"}, "pooling is 'min'; it must be max or avg"),
        ((3, 8, 8), {"dropout": 1.0}, "dropout is 1.0"),
        (
            (3, 8, 8),
            {"normalization": "group", "groups": 5},
            "groups is 5, which does not divide a stage's 64 channels",
        ),
    ],
)
def test_refusals(shape: tuple[int, ...], settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ConvNet(shape, K, **settings)  # type: ignore[arg-type]
