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
    network = create_backbone(name, 0, input_shape[0], None, options or {}, input_shape[1:], small_stem)
    network.to(memory_format=torch.channels_last)  # twice as fast in half precision, on GPUs and CPUs
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, *input_shape))  # timm's own attributes differ by kind of network
    return network.train(), features.shape[1]


def create_backbone(
    name: str,
    num_classes: int,
    channels: int,
    pretrained: str | None,
    options: Mapping[str, Any],
    size: Sequence[int],
    small_stem: bool = False,
) -> nn.Module:
    """Returns a network of timm whose last layer has small random weights, so that all classes start level.

    A network made for images of one size, such as a vision transformer, is created for that of the images.

    Args:
        name: Name of the model in timm, such as resnet18.
        num_classes: Outputs of the last layer; 0 leaves it out, and the network returns its features (B, F).
        channels: Channels C of the images.
        pretrained: hub for the weights that timm names, a file of weights, or None for random weights.
        options: Further arguments of `timm.create_model`.
        size: Height and width (H, W) of the images that the network gets.
        small_stem: Whether to enlarge the stem for small images.

    Raises:
        ValueError: If the name is unknown, the model refuses an argument or the weights, or can't take the images.
    """
    network = _create(name, num_classes, channels, pretrained, options, small_stem)
    problem = _try(network, (channels, *size), num_classes)
    if problem is not None and "img_size" not in options:
        try:
            sized = _create(name, num_classes, channels, pretrained, {**options, "img_size": tuple(size)}, small_stem)
        except UserError:
            pass  # the model has no such argument, or no such size
        else:
            network, problem = sized, _try(sized, (channels, *size), num_classes)
    if problem is not None:
        side = getattr(network, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[-1]
        with_options = f" with options {dict(options)}" if options else ""
        raise UserError(
            f"{name}{with_options} can't take images of {size[0]}×{size[1]} pixels: {problem}; resize them to the "
            f"{side}×{side} that it is made for (image_size, where the model has it), or use another model or options."
        )
    return network


def _create(
    name: str,
    num_classes: int,
    channels: int,
    pretrained: str | None,
    options: Mapping[str, Any],
    small_stem: bool,
) -> nn.Module:
    if pretrained is None:
        network = create_timm_model(name, None, options, in_chans=channels, num_classes=num_classes)
    else:
        network = create_timm_model(name, pretrained, options, new_classes=num_classes, in_chans=channels)
    head = network.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    if small_stem:
        enlarge_stem(network, name)
    return network


def _try(network: nn.Module, shape: Sequence[int], num_classes: int) -> str | None:
    """Returns why the network can't turn one image of the shape (C, H, W) into logits or features, None if it can."""
    training = network.training
    try:
        with torch.no_grad():
            outputs = network.eval()(torch.zeros(1, *shape))
    except Exception as error:  # assertions of timm, and torch's errors of shapes
        return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    finally:
        network.train(training)
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or num_classes not in (0, outputs.shape[1]):
        got = tuple(outputs.shape[1:]) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        return f"it returns {got} for an image instead of {num_classes or 'one vector of'} numbers"
    return None


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
