"""The layers of any network by name, and what they put out while it runs: hooks, so that no network must offer it.

A name is that of `named_modules`, such as `stages.1` in a ConvNet or `blocks.3.0` in a network of timm. What is looked
at are layers that give maps; a map is what one channel of a layer sees at every position.

Shapes: B images in a batch, C channels, H×W pixels, M channels of a layer, h×w positions of its maps, K classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError

_MOST_LISTED = 30  # names in an error's sentence


@contextmanager
def captured(layers: Sequence[nn.Module]) -> Iterator[list[Tensor | None]]:
    """A list that the last output of each of the layers gets into while the network runs; None before.

    The network goes on with a copy of it, or a following ReLU that works in place would change what was captured.
    """
    outputs: list[Tensor | None] = [None] * len(layers)
    with ExitStack() as hooks:
        for i, layer in enumerate(layers):

            def keep(_: nn.Module, __: Any, output: Any, i: int = i) -> Tensor | None:
                if not isinstance(output, Tensor):
                    return None
                outputs[i] = output
                return output.clone()

            hooks.callback(layer.register_forward_hook(keep).remove)
        yield outputs


@torch.no_grad()
def map_layers(model: nn.Module, images: Tensor) -> dict[str, torch.Size]:
    """The layers that give maps for images (B, C, H, W), in the order in which they run, with shapes (B, M, h, w)."""
    shapes: dict[str, torch.Size] = {}
    with ExitStack() as hooks:
        for name, layer in model.named_modules():

            def note(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                if name and isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                    shapes.pop(name, None)  # a layer that runs twice counts where it ran last
                    shapes[name] = output.shape

            hooks.callback(layer.register_forward_hook(note).remove)
        model(images)
    return shapes


def find_layer(model: nn.Module, name: str, images: Tensor) -> nn.Module:
    """The layer of that name.

    Raises:
        ValueError: no such layer, or one that gives no maps for images (B, C, H, W).
    """
    names = list(map_layers(model, images))
    if name in names:
        return model.get_submodule(name)
    if not names:
        raise UserError(f"{type(model).__name__} has no layer that gives maps (B, M, h, w); give another network.")
    if name in dict(model.named_modules()):
        problem = f"Layer {name!r} of {type(model).__name__} gives no maps (B, M, h, w)"
    else:
        problem = f"{type(model).__name__} has no layer {name!r}"
    near = get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(near)}? It has" if near else "it has"
    raise UserError(f"{problem}; {hint} {_listed(names)}.")


def _listed(names: list[str]) -> str:
    """All names, or the outermost ones if they are too many for a sentence."""
    depth = max(name.count(".") for name in names)
    while depth and sum(name.count(".") <= depth for name in names) > _MOST_LISTED:
        depth -= 1
    shown = [name for name in names if name.count(".") <= depth][:_MOST_LISTED]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} within these, such as {names[len(names) // 2]}" if rest else "")


def stage_layers(model: nn.Module, images: Tensor) -> list[str]:
    """What the stages of a network end with: for each size of maps (h, w) the last of the outermost layers with it."""
    ends: dict[tuple[int, ...], str] = {}
    for name, shape in map_layers(model, images).items():
        known = ends.get(tuple(shape[2:]))
        if known is None or name.count(".") <= known.count("."):
            ends[tuple(shape[2:])] = name
    return list(ends.values())


@torch.no_grad()
def feature_maps(model: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    """What layers make of images (B, C, H, W): their names to maps (B, M, h, w).

    Raises:
        ValueError: a layer that does not exist or gives no maps.
    """
    with captured([find_layer(model, name, images[:1]) for name in names]) as outputs:
        model(images)
    return {name: output for name, output in zip(names, outputs, strict=True) if output is not None}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, where the images of a batch don't influence each other; then as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def taking_pixels(model: nn.Module, preprocess: Any) -> Iterator[None]:
    """The network takes pixels in [0, 1], (B, C, H, W), as they are shown; `preprocess` makes of them what it took."""
    hook = model.register_forward_pre_hook(lambda _, inputs: (preprocess(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
