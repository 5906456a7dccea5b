"""Feature extraction: captures the outputs of any layer, found by name, with forward hooks.

Names are those of `named_modules`, such as `stages.1` in a ConvNet or `blocks.3.0` in a network of timm. A feature map
is the output of one channel of a layer at every position.

Shapes: B images in a batch, C channels, H×W pixels, M channels of a layer, h×w positions of its maps, K classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError

_MAX_LISTED = 30  # names in an error message


@contextmanager
def captured_outputs(layers: Sequence[nn.Module]) -> Iterator[list[Tensor | None]]:
    """Yields a list of the last outputs of the layers, None until the network has run.

    The network continues with a copy of each output, since a following in-place ReLU would change the captured one.
    """
    outputs: list[Tensor | None] = [None] * len(layers)
    with ExitStack() as hooks:
        for i, layer in enumerate(layers):

            def capture(_: nn.Module, __: Any, output: Any, i: int = i) -> Tensor | None:
                if not isinstance(output, Tensor):
                    return None
                outputs[i] = output
                return output.clone()

            hooks.callback(layer.register_forward_hook(capture).remove)
        yield outputs


@torch.no_grad()
def map_layers(model: nn.Module, images: Tensor) -> dict[str, torch.Size]:
    """Returns the layers that output maps for images (B, C, H, W), in order of execution, with shapes (B, M, h, w)."""
    shapes: dict[str, torch.Size] = {}
    with ExitStack() as hooks:
        for name, layer in model.named_modules():

            def record(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                if name and isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                    shapes.pop(name, None)  # a layer that runs twice is listed where it runs last
                    shapes[name] = output.shape

            hooks.callback(layer.register_forward_hook(record).remove)
        model(images)
    return shapes


def find_layer(model: nn.Module, name: str, images: Tensor) -> nn.Module:
    """Returns the layer of a name.

    Raises:
        ValueError: If there is no such layer, or it outputs no maps for images (B, C, H, W).
    """
    names = list(map_layers(model, images))
    if name in names:
        return model.get_submodule(name)
    if not names:
        raise UserError(
            f"{type(model).__name__} has no layer that outputs maps (B, M, h, w); use a convolutional network."
        )
    if name in dict(model.named_modules()):
        problem = f"Layer {name!r} of {type(model).__name__} outputs no maps (B, M, h, w)"
    else:
        problem = f"{type(model).__name__} has no layer {name!r}"
    near = get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(near)}? It has" if near else "it has"
    raise UserError(f"{problem}; {hint} {_listed(names)}.")


def _listed(names: list[str]) -> str:
    """Lists all names, or the outermost ones if there are too many for a message."""
    depth = max(name.count(".") for name in names)
    while depth and sum(name.count(".") <= depth for name in names) > _MAX_LISTED:
        depth -= 1
    shown = [name for name in names if name.count(".") <= depth][:_MAX_LISTED]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} inside them, such as {names[len(names) // 2]}" if rest else "")


def stage_layers(model: nn.Module, images: Tensor) -> list[str]:
    """Returns the last layer of each stage: for each map size (h, w) the last of the outermost layers of this size."""
    last: dict[tuple[int, ...], str] = {}
    for name, shape in map_layers(model, images).items():
        earlier = last.get(tuple(shape[2:]))
        if earlier is None or name.count(".") <= earlier.count("."):
            last[tuple(shape[2:])] = name
    return list(last.values())


@torch.no_grad()
def feature_maps(model: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    """Returns the maps (B, M, h, w) of layers for images (B, C, H, W), by name.

    Raises:
        ValueError: If a layer does not exist or outputs no maps.
    """
    with captured_outputs([find_layer(model, name, images[:1]) for name in names]) as outputs:
        model(images)
    return {name: output for name, output in zip(names, outputs, strict=True) if output is not None}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode, and every layer back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def taking_pixels(model: nn.Module, preprocess: Any) -> Iterator[None]:
    """Makes a network take pixels in [0, 1], (B, C, H, W), which `preprocess` converts to its own inputs."""
    hook = model.register_forward_pre_hook(lambda _, inputs: (preprocess(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
