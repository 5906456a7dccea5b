"""The image encoder: convolutions and grid against their formula, networks of timm, features, and positions."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from modules import CaptionLSTM
from modules.captioning.image_encoder import ImageEncoder
from tests.modules.captioning.captioning import WORDS, affine, layer_norm, scrambled, weights
from tests.modules.networks.test_conv_net import convolution

TINY = "test_resnet"  # timm's own for tests: 0.5 million parameters


def test_the_grid_of_an_image_equals_the_formula() -> None:
    encoder = scrambled(ImageEncoder((3, 9, 8), 5, (4, 6)))
    images = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    maps = images.numpy()
    layers = list(encoder.network)
    for conv, norm in zip(layers[::3], layers[1::3], strict=True):
        maps = convolution(maps, conv.weight.detach().numpy(), None)[:, :, ::2, ::2]
        gamma, beta = (p.detach().numpy().reshape(1, -1, 1, 1) for p in norm.parameters())
        maps = np.maximum(gamma * maps / np.sqrt(1 + 1e-5) + beta, 0)  # running mean 0, variance 1
    assert encoder.grid == maps.shape[2:] == (3, 2)
    features = maps.reshape(2, 6, 6).transpose(0, 2, 1)
    expected = layer_norm(affine(features, encoder.project) + weights(encoder)["positions"], encoder.norm)
    np.testing.assert_allclose(encoder(images).detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "grid"), [((49, 3), (7, 7)), ((10, 3), (1, 10)), ((3,), (1, 1)), ((3, 48, 32), (6, 4))]
)
def test_shapes(shape: tuple[int, ...], grid: tuple[int, int]) -> None:
    encoder = ImageEncoder(shape, 5)
    assert encoder.grid == grid
    assert encoder(torch.randn(2, *shape)).shape == (2, grid[0] * grid[1], 5)


def test_positions_tell_equal_features_apart() -> None:
    """The same feature at all positions gives different vectors, since attention does not depend on their order."""
    torch.manual_seed(0)
    encoder = ImageEncoder((16, 3), 8)
    grid = encoder(torch.ones(1, 16, 3))[0]
    distances = torch.cdist(grid, grid) + 1e9 * torch.eye(16)
    assert distances.min() > 1e-3


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [(TINY, 64, (2, 2)), ("test_vit", 160, (10, 10)), ("tf_efficientnet_lite0", 64, (2, 2))],
)
def test_a_network_of_timm_gives_its_last_feature_map(name: str, size: int, grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder((3, size, size), 5, backbone=name).eval()
    assert encoder.grid == grid
    assert isinstance(encoder.network, nn.Module)
    images = torch.randn(2, 3, size, size)
    maps: Tensor = encoder.network.forward_features(images)  # type: ignore[operator]
    features = maps.flatten(2).mT if maps.ndim == 4 else maps[:, -(grid[0] * grid[1]) :]
    expected = encoder.norm(encoder.project(features) + encoder.positions)
    torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-5)


def test_channels_may_come_last() -> None:
    """As in the Swin transformer, whose maps are (B, h, w, M)."""
    options: dict[str, Any] = {"img_size": 64, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "window_size": 4}
    network = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, **options)
    encoder = ImageEncoder((3, 64, 64), 5)
    encoder.network = network.eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(encoder._features(images), network.forward_features(images))  # type: ignore[operator]


def test_a_frozen_network_stays_as_it_is() -> None:
    torch.manual_seed(0)
    frozen = ImageEncoder((3, 64, 64), 5, backbone=TINY, freeze_backbone=True).train()
    free = ImageEncoder((3, 64, 64), 5, backbone=TINY).train()
    for encoder in (frozen, free):
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        encoder(torch.randn(4, 3, 64, 64)).square().sum().backward()
        same = [torch.equal(before[n], v) for n, v in encoder.state_dict().items() if n.startswith("network")]
        trained = [p.grad is not None for p in encoder.network.parameters()]  # type: ignore[union-attr]
        assert all(same) == (encoder is frozen)  # running averages move in training
        assert any(trained) == (encoder is free)
        assert encoder.project.weight.grad is not None


def test_a_captioner_accepts_the_settings_of_the_backbone() -> None:
    model = CaptionLSTM((3, 64, 64), WORDS, 8, backbone=TINY, freeze_backbone=True)
    assert not any(p.requires_grad for p in model.encoder.network.parameters())  # type: ignore[union-attr]
    assert model(torch.randn(2, 3, 64, 64), torch.ones(2, 3, dtype=torch.int64)).shape == (2, 3, len(WORDS))


@pytest.mark.parametrize(
    ("shape", "settings", "sentence"),
    [
        ((1, 3, 8, 8), {}, r"The data has shape \(1, 3, 8, 8\); a captioner takes images"),
        ((3, 0), {}, r"The data has shape \(3, 0\)"),
        ((3, 8, 8), {"channels": [4] * 4}, "4 stages halve the image 4 times, but it has 8×8 pixels; give at most 3"),
        ((3, 8, 8), {"channels": []}, r"channels is \[\]; it must be at least one stage"),
        ((3, 8, 8), {"channels": [0]}, r"channels is \[0\]"),
        (
            (3, 8, 8),
            {"pretrained": "hub"},
            "pretrained is 'hub' and freeze_backbone is False, but there is no backbone",
        ),
        ((3, 8, 8), {"freeze_backbone": True}, "freeze_backbone is True, but there is no backbone"),
        ((49, 8), {"backbone": TINY}, r"backbone is 'test_resnet', but the data has features of shape \(49, 8\)"),
        ((3, 8, 8), {"backbone": "test_resnett"}, "timm has no model 'test_resnett'; did you mean test_resnet"),
        ((3, 8, 8), {"backbone": TINY, "pretrained": "no.pth"}, "there is no such file"),
    ],
)
def test_refusals(shape: tuple[int, ...], settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ImageEncoder(shape, 4, **settings)  # type: ignore[arg-type]
