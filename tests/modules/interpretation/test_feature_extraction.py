"""Layers are found by name and their outputs captured without changing the network."""

import pytest
import timm
import torch
from torch import Tensor, nn

from modules import ConvNet, SoftmaxRegression
from modules.interpretation.feature_extraction import (
    captured_outputs,
    evaluating,
    feature_maps,
    find_layer,
    map_layers,
    stage_layers,
    taking_pixels,
)


class InPlace(nn.Module):
    """Overwrites the output of its convolution in place, and runs its pooling twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(self.pool(self.relu(self.conv(images)))).mean((2, 3))


def test_captured_are_the_values_before_an_in_place_relu() -> None:
    torch.manual_seed(0)
    model, images = InPlace(), torch.randn(2, 1, 8, 8)
    expected, result = model.conv(images), model(images)
    with captured_outputs([model.conv]) as outputs:
        assert outputs == [None]
        assert torch.equal(model(images), result)
    assert torch.equal(outputs[0], expected) and (expected < 0).any()  # type: ignore[arg-type]
    assert not model.conv._forward_hooks


def test_map_layers_are_in_order_of_execution() -> None:
    shapes = map_layers(InPlace(), torch.zeros(3, 1, 8, 8))
    assert list(shapes.items()) == [("conv", (3, 2, 8, 8)), ("relu", (3, 2, 8, 8)), ("pool", (3, 2, 2, 2))]


def test_stages_end_with_the_outermost_layer_of_each_size() -> None:
    assert stage_layers(ConvNet((1, 16, 16), 3, [4, 8], 1), torch.zeros(1, 1, 16, 16)) == [
        "stages.0.1", "stages.0", "stages.1",
    ]  # fmt: skip
    network = timm.create_model("resnet10t").eval()
    assert stage_layers(network, torch.zeros(1, 3, 64, 64))[-4:] == ["layer1", "layer2", "layer3", "layer4"]


def test_feature_maps_are_the_outputs_of_the_stages() -> None:
    model, images = ConvNet((3, 8, 8), 4, [4, 6], 1).eval(), torch.randn(2, 3, 8, 8)
    maps = feature_maps(model, ["stages.1", "stages.0"], images)
    expected = model.feature_maps(images)
    assert list(maps) == ["stages.1", "stages.0"]
    assert torch.equal(maps["stages.0"], expected["stage 1"]) and torch.equal(maps["stages.1"], expected["stage 2"])


def test_the_message_about_a_missing_layer_lists_the_layers() -> None:
    model, image = ConvNet((3, 8, 8), 4, [4, 6], 1), torch.zeros(1, 3, 8, 8)
    with pytest.raises(
        ValueError, match=r"ConvNet has no layer 'stage.1'; did you mean stages.1, .*\? It has stages.0.0, "
    ):
        find_layer(model, "stage.1", image)
    with pytest.raises(
        ValueError, match=r"Layer 'output' of ConvNet outputs no maps \(B, M, h, w\); it has stages\.0\.0, "
    ):
        find_layer(model, "output", image)
    with pytest.raises(ValueError, match="SoftmaxRegression has no layer that outputs maps"):
        find_layer(SoftmaxRegression((3, 8, 8), 4), "linear", image)


def test_the_outermost_of_many_layers_are_listed() -> None:
    network = timm.create_model("resnet18").eval()
    with pytest.raises(ValueError, match="no layer 'nothing'") as error:
        find_layer(network, "nothing", torch.zeros(1, 3, 64, 64))
    message = str(error.value)
    assert all(name in message for name in ("conv1", "layer1", "layer4.1")) and "layer1.0.conv1," not in message
    assert len(message) < 600 and " inside them, such as layer" in message


def test_evaluating_restores_the_mode_of_every_layer() -> None:
    model = ConvNet((3, 8, 8), 4, [4, 6], 1).train()
    model.stages[0].eval()
    before = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before


def test_taking_pixels_adds_the_preprocessing() -> None:
    model, images = ConvNet((3, 8, 8), 4, [4, 6], 1).eval(), torch.rand(2, 3, 8, 8)
    expected, plain = model((images - 0.5) / 0.2), model(images)
    with taking_pixels(model, lambda pixels: (pixels - 0.5) / 0.2):
        assert torch.equal(model(images), expected)
    assert torch.equal(model(images), plain)
