"""The convolutional net against scipy's correlation in float64, and what its layers must keep."""

from math import log
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d
from torch import Tensor, nn

from modules import ConvNet

K = 4


def convolution(
    images: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, mode: Literal["same", "valid"] = "same"
) -> np.ndarray:
    """(B, C, H, W) with (M, C, k, k) to (B, M, H, W), zero-padded, or (B, M, H − k + 1, W − k + 1), `valid`."""
    lost = weight.shape[2] - 1 if mode == "valid" else 0
    out = np.zeros((len(images), len(weight), *(side - lost for side in images.shape[2:])))
    for b, image in enumerate(images):
        for m, kernel in enumerate(weight):
            out[b, m] = sum(correlate2d(plane, k, mode=mode) for plane, k in zip(image, kernel, strict=True))
            out[b, m] += 0.0 if bias is None else bias[m]
    return out


def pooled(maps: np.ndarray, pooling: str) -> np.ndarray:
    """Over 2×2 pixels; a last odd row or column is left out."""
    height, width = (side // 2 for side in maps.shape[2:])
    tiles = maps[:, :, : 2 * height, : 2 * width].reshape(*maps.shape[:2], height, 2, width, 2)
    return tiles.max((3, 5)) if pooling == "max" else tiles.mean((3, 5))


def test_without_padding_each_convolution_loses_a_border() -> None:
    torch.manual_seed(0)
    model = ConvNet((3, 19, 17), K, [4, 6], 2, 3, "none", padding=False).double()
    images = torch.randn(2, 3, 19, 17, dtype=torch.float64)
    maps, found = images.numpy(), model.feature_maps(images)
    for number, stage in enumerate(model.stages, start=1):
        for conv in (layer for layer in stage.children() if isinstance(layer, nn.Conv2d)):
            assert conv.bias is not None
            maps = np.maximum(convolution(maps, conv.weight.detach().numpy(), conv.bias.detach().numpy(), "valid"), 0)
        maps = pooled(maps, "max")
        np.testing.assert_allclose(found[f"stage {number}"].detach(), maps, rtol=1e-9, atol=1e-9)
    assert [part.shape[2:] for part in found.values()] == [(7, 6), (1, 1)]
    with pytest.raises(ValueError, match="Without padding, stage 2 leaves no pixel of 14×17: kernel_size is 3"):
        ConvNet((3, 14, 17), K, [4, 6], 2, 3, padding=False)


def test_convolutions_without_nonlinearity_between_are_one_with_a_larger_kernel() -> None:
    """Three 3×3 convolutions in a row are a 7×7 one, whose kernel is the convolution of the three."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(*channels, 3, bias=False, dtype=torch.float64) for channels in ((3, 5), (5, 4), (4, 2))]
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    joined = images
    for layer in layers:
        joined = layer(joined)
    kernel = np.zeros((2, 3, 7, 7))  # sums over the channels between, in the sense of deep learning: not flipped
    first, second, third = (layer.weight.detach().numpy() for layer in layers)
    for m, c, i, j in np.ndindex(2, 3, 4, 5):
        kernel[m, c] += convolve2d(convolve2d(third[m, i], second[i, j]), first[j, c])
    np.testing.assert_allclose(convolution(images.numpy(), kernel, None, "valid"), joined.detach(), atol=1e-12)
    with_relu = layers[2](layers[1](layers[0](images).relu()).relu())
    doubled = layers[2](layers[1](layers[0](-images).relu()).relu())
    assert (with_relu + doubled).abs().max() > 0.1  # no linear map: f(−x) is not −f(x)


def test_any_convolution_is_a_matrix() -> None:
    """A kernel as large as the image is one fully connected layer: each output an inner product with all pixels."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 8, dtype=torch.float64)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    assert conv.bias is not None
    affine = images.flatten(1) @ conv.weight.flatten(1).T + conv.bias
    torch.testing.assert_close(conv(images).flatten(1), affine)


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
