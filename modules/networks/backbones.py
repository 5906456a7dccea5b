"""Networks of timm, made ready for small images, for every topic that needs one.

Networks for images of 224 pixels begin by shrinking them to a quarter. For 32 pixels the first convolution becomes 3×3
with stride 1, and the max pooling after it is left out (K. He et al., arXiv 1512.03385, section 4.2).

Shapes: B images in a batch, C channels, F features of one image.
"""

import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import UserError


def create_encoder(
    input_shape: Sequence[int], name: str, small_stem: bool, options: Mapping[str, Any] | None
) -> tuple[nn.Module, int]:
    """A network without its classifier, from images (B, *input_shape) to features (B, F), at random weights; and F.

    Raises:
        ValueError: inputs that are not images, an unknown name, or options that the model refuses.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"{name} takes images (C, H, W), but the data has shape {tuple(input_shape)}; give a preprocessing that "
            "keeps them images, such as standardize."
        )
    network = create_backbone(name, 0, input_shape[0], None, options or {})
    if small_stem:
        enlarge_stem(network, name)
    network.to(memory_format=torch.channels_last)  # twice as fast in half precision, on GPUs and CPUs
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, *input_shape))  # what timm says of itself differs by kind of network
    return network.train(), features.shape[1]


def create_backbone(
    name: str, num_classes: int, channels: int, pretrained: str | None, options: Mapping[str, Any]
) -> nn.Module:
    """The network with its weights; its last layer small, so that all classes start level.

    Args:
        name: of the model in timm, such as resnet18.
        num_classes: outputs of the last layer; 0 leaves it out, and the network gives its features (B, F).
        channels: C of its images.
        pretrained: hub, a file of weights, or None for random ones.
        options: further arguments of timm.create_model.

    Raises:
        ValueError: an unknown name, arguments that the model refuses, or weights that are missing or don't fit.
    """
    own: dict[str, Any] = {"in_chans": channels}
    if pretrained is None:
        own["num_classes"] = num_classes
    network = timm_network(name, pretrained, options, reset_to=None if pretrained is None else num_classes, **own)
    head = network.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    return network


def timm_network(
    name: str, pretrained: str | None, options: Mapping[str, Any], reset_to: int | None = None, **arguments: Any
) -> nn.Module:
    """What timm.create_model gives, and a sentence where it refuses.

    Args:
        name: of the model in timm.
        pretrained: hub, a file of weights, or None for random ones.
        options: further arguments of timm.create_model, as a person gave them.
        reset_to: outputs of a new last layer; timm checks that all weights fit only while the classes are the weights'
            own, so it comes afterwards. None keeps the layer.
        arguments: of timm.create_model too, given where `options` does not.

    Raises:
        ValueError: an unknown name, arguments that the model refuses, or weights that are missing or don't fit.
    """
    import timm  # takes a second and a half to import

    if not timm.is_model(name.split(".")[0]):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models('*resnet*') lists some."
        raise UserError(f"timm has no model {name!r}; {hint}")
    arguments |= options
    if pretrained not in (None, "hub"):
        if not Path(str(pretrained)).is_file():
            raise UserError(f"pretrained is {pretrained!r}, and there is no such file; give hub or a file of weights.")
        arguments["pretrained_cfg_overlay"] = {"file": pretrained}
    elif pretrained == "hub" and not timm.is_model_pretrained(name):
        raise UserError(f"timm knows no pretrained weights for {name!r}; give a file of weights, or leave it out.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = timm.create_model(name, pretrained=pretrained is not None, **arguments)
            if reset_to is not None:
                network.reset_classifier(reset_to)  # type: ignore[operator]
    except Exception as error:  # timm, torch and the hub each raise what they please
        reason = " ".join(str(error).split())[:300].rstrip(".")
        if pretrained is not None:
            raise UserError(
                f"The weights {pretrained!r} can't be used for {name}: {reason}; give weights of this very model."
            ) from error
        raise UserError(f"timm can't make {name} with {dict(options)}: {reason}.") from error
    return network


def first_convolution(network: nn.Module) -> nn.Conv2d:
    """The network's first convolution.

    Raises:
        ValueError: the network has none.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            return layer
    raise UserError(f"{type(network).__name__} has no convolution whose filters could be shown.")


def enlarge_stem(network: nn.Module, model: str) -> None:
    """Lets the first convolution keep the size of its images, and takes away the pooling after it.

    Raises:
        ValueError: a network that cuts the image into patches instead.
    """
    conv = first_convolution(network)
    if conv.stride == (1, 1):
        return
    if conv.kernel_size == conv.stride:
        raise UserError(
            f"{model} cuts images into patches of {conv.stride[0]} pixels and has no stem to enlarge; give "
            "--model.small_stem false, and --model.options '{patch_size: 4}' for smaller patches if it takes them."
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
