"""Generators and discriminators: shapes, ranges, weights per pixel of a transposed convolution, and refusals."""

import pytest
import torch
from torch import nn

from modules.gan.gan_networks import NetworkKind, new_discriminator, new_generator
from modules.networks.normalization import VectorNorm

KINDS: list[NetworkKind] = ["fully_connected", "convolutional"]


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 32, 20)])
@pytest.mark.parametrize("kind", KINDS)
def test_shapes_ranges_and_that_every_parameter_learns(
    kind: NetworkKind, shape: tuple[int, ...], norm: VectorNorm
) -> None:
    torch.manual_seed(0)
    generator = new_generator(kind, shape, 5, 6, norm)
    discriminator = new_discriminator(kind, shape, 6, norm)
    images = generator(torch.randn(4, 5))
    assert images.shape == (4, *shape)
    assert images.abs().max() <= 1
    scores = discriminator(images)
    assert scores.shape == (4,)
    scores.square().sum().backward()
    for name, parameter in [*generator.named_parameters(), *discriminator.named_parameters()]:
        followed_by_norm = norm == "batch" and parameter.ndim == 1  # a shift before batch norm is taken out again
        assert parameter.grad is not None and (parameter.grad.abs().sum() > 0 or followed_by_norm), name


@pytest.mark.parametrize("kind", KINDS)
def test_weights_start_with_standard_deviation_002_and_biases_at_0(kind: NetworkKind) -> None:
    torch.manual_seed(0)
    for network in (
        new_generator(kind, (1, 28, 28), 64, 256, "batch"),
        new_discriminator(kind, (1, 28, 28), 256, "none"),
    ):
        layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
        assert len(layers) == (3 if kind == "fully_connected" else 4)
        for layer in layers:
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert layer.bias is not None and not layer.bias.any()


def test_a_transposed_convolution_reaches_every_inner_pixel_equally_often() -> None:
    """Otherwise images of an untrained generator would show a checkerboard."""
    network = new_generator("convolutional", (1, 16, 16), 3, 2, "none")
    (last,) = [m for m in network.modules() if isinstance(m, nn.ConvTranspose2d) and m.out_channels == 1]
    nn.init.ones_(last.weight)
    reached = last(torch.ones(1, 2, 8, 8))[0, 0, 1:-1, 1:-1]
    assert reached.unique().tolist() == [8]


@pytest.mark.parametrize(
    ("shape", "name"), [((1, 30, 28), "30×28"), ((1, 28, 26), "28×26"), ((3, 4, 4), "4×4")], ids=lambda v: str(v)
)
def test_image_sizes_that_the_convolutional_networks_do_not_support(shape: tuple[int, ...], name: str) -> None:
    sentence = f"must be multiples of 4, at least 8, but the data has {name} pixels; set %s to fully_connected"
    with pytest.raises(ValueError, match=sentence % "generator"):
        new_generator("convolutional", shape, 5, 6, "batch")
    with pytest.raises(ValueError, match=sentence % "discriminator"):
        new_discriminator("convolutional", shape, 6, "none")
    assert new_generator("fully_connected", shape, 5, 6, "none")(torch.randn(2, 5)).shape == (2, *shape)


def test_unknown_kinds() -> None:
    with pytest.raises(ValueError, match="generator is 'dense'; it must be fully_connected or convolutional"):
        new_generator("dense", (1, 8, 8), 5, 6, "none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="discriminator is 'dense'; it must be fully_connected or convolutional"):
        new_discriminator("dense", (1, 8, 8), 6, "none")  # type: ignore[arg-type]
