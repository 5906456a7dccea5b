"""Each normalization against its formula in float64, over the set of values that its row of the table names."""

import pytest
import torch
from torch import Tensor, nn

from modules.networks.normalization import image_norm, vector_norm

EPSILON = 1e-5


def by_formula(x: Tensor, dimensions: tuple[int, ...]) -> Tensor:
    """(x − μ) / √(σ² + ε), μ and σ² over `dimensions`."""
    mean = x.mean(dimensions, keepdim=True)
    variance = ((x - mean) ** 2).mean(dimensions, keepdim=True)
    return (x - mean) / (variance + EPSILON).sqrt()


def randomized(layer: nn.Module) -> nn.Module:
    """In float64, its γ and β drawn at random."""
    for parameter in layer.double().parameters():
        nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "dimensions"), [("batch", (0,)), ("layer", (1,))])
def test_vectors(kind: str, dimensions: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = randomized(vector_norm(kind, 6)), 3 + 2 * torch.randn(5, 6, dtype=torch.float64)  # type: ignore[arg-type]
    expected = layer.weight * by_formula(x, dimensions) + layer.bias  # type: ignore[operator]
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["batch", "layer", "group"])
def test_images(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    groups = 3
    layer, x = randomized(image_norm(kind, 6, groups)), 3 + 2 * torch.randn(4, 6, 5, 2, dtype=torch.float64)  # type: ignore[arg-type]
    if kind == "batch":
        normal = by_formula(x, (0, 2, 3))
    elif kind == "layer":
        normal = by_formula(x, (1, 2, 3))
    else:
        normal = by_formula(x.unflatten(1, (groups, 2)), (2, 3, 4)).flatten(1, 2)
    expected = layer.weight.reshape(1, 6, 1, 1) * normal + layer.bias.reshape(1, 6, 1, 1)  # type: ignore[operator]
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_batch_normalization_evaluates_with_running_averages() -> None:
    torch.manual_seed(0)
    layer = randomized(vector_norm("batch", 3))
    mean, variance = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for _ in range(4):
        x = torch.randn(7, 3, dtype=torch.float64) * 2 + 1
        layer(x)
        mean = 0.9 * mean + 0.1 * x.mean(0)
        variance = 0.9 * variance + 0.1 * ((x - x.mean(0)) ** 2).sum(0) / (len(x) - 1)
    x = torch.randn(2, 3, dtype=torch.float64)
    expected = layer.weight * (x - mean) / (variance + EPSILON).sqrt() + layer.bias  # type: ignore[operator]
    torch.testing.assert_close(layer.eval()(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["layer", "group"])
def test_a_sample_is_normalized_alone(kind: str) -> None:
    layer, x = image_norm(kind, 4, 2), torch.randn(5, 4, 3, 3)  # type: ignore[arg-type]
    torch.testing.assert_close(layer(x)[2:3], layer(x[2:3]))


def test_none_leaves_values_as_they_are() -> None:
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(image_norm("none", 4, 1)(x), x)
    assert torch.equal(vector_norm("none", 4)(x), x)


def test_refusals() -> None:
    with pytest.raises(
        ValueError, match="groups is 3, which does not divide a stage's 8 channels; it must be one of 1, 2, 4, 8"
    ):
        image_norm("group", 8, 3)
    with pytest.raises(ValueError, match="normalization is 'instance'; it must be none, batch, layer or group"):
        image_norm("instance", 8, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="normalization is 'group'; it must be none, batch or layer"):
        vector_norm("group", 8)  # type: ignore[arg-type]
