"""Networks of timm, adapted to small images, for every topic that needs one.

Networks for images of 224 pixels begin by shrinking them to a quarter. For 32 pixels the first convolution becomes 3×3
with stride 1, and the max pooling after it is left out (K. He et al., arXiv 1512.03385, section 4.2).

Shapes: B images in a batch, C channels, F features of one image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from common.errors import UserError
from common.timm_models import create_timm_model


def create_encoder(
    input_shape: Sequence[int], name: str, small_stem: bool, options: Mapping[str, Any] | None
) -> tuple[nn.Module, int]:
    """Returns a randomly initialized network without classifier, images (B, *input_shape) to features (B, F), and F.

    Raises:
        ValueError: If the inputs are not images, the name is unknown, or the model refuses an option.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"{name} takes images (C, H, W), but the data has shape {tuple(input_shape)}; choose a preprocessing that "
            "keeps them images, such as standardize."
        )
    network = create_backbone(name, 0, input_shape[0], None, options or {})
    if small_stem:
        enlarge_stem(network, name)
    network.to(memory_format=torch.channels_last)  # twice as fast in half precision, on GPUs and CPUs
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, *input_shape))  # timm's own attributes differ by kind of network
    return network.train(), features.shape[1]


def create_backbone(
    name: str, num_classes: int, channels: int, pretrained: str | None, options: Mapping[str, Any]
) -> nn.Module:
    """Returns a network of timm whose last layer has small random weights, so that all classes start level.

    Args:
        name: Name of the model in timm, such as resnet18.
        num_classes: Outputs of the last layer; 0 leaves it out, and the network returns its features (B, F).
        channels: Channels C of the images.
        pretrained: hub for the weights that timm names, a file of weights, or None for random weights.
        options: Further arguments of `timm.create_model`.

    Raises:
        ValueError: If the name is unknown, or the model refuses an argument or the weights.
    """
    if pretrained is None:
        network = create_timm_model(name, None, options, in_chans=channels, num_classes=num_classes)
    else:
        network = create_timm_model(name, pretrained, options, new_classes=num_classes, in_chans=channels)
    head = network.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    return network


def first_convolution(network: nn.Module) -> nn.Conv2d:
    """Returns the network's first convolution.

    Raises:
        ValueError: If the network has no convolution.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            return layer
    raise UserError(f"{type(network).__name__} has no convolution whose filters could be shown.")


def enlarge_stem(network: nn.Module, model: str) -> None:
    """Changes the first convolution to keep the size of the images, and removes the max pooling after it.

    Args:
        network: Network of timm, changed in place.
        model: Its name, for the message.

    Raises:
        ValueError: If the network cuts the image into patches instead.
    """
    conv = first_convolution(network)
    if conv.stride == (1, 1):
        return
    if conv.kernel_size == conv.stride:
        raise UserError(
            f"{model} cuts images into patches of {conv.stride[0]} pixels and has no stem to enlarge; set small_stem "
            "to false, and options to {patch_size: 4} for smaller patches if the model accepts them."
        )
    conv.stride = (1, 1)
    if conv.kernel_size[0] > 3:
        margin = (conv.kernel_size[0] - 3) // 2
        conv.weight = nn.Parameter(conv.weight.detach()[..., margin : margin + 3, margin : margin + 3].clone())
        conv.kernel_size, conv.padding = (3, 3), (1, 1)
    for pool_name, layer in network.named_modules():
        if isinstance(layer, nn.MaxPool2d):
            parent, _, child = pool_name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())
            return
