"""Receptive fields of units, and the image patches with the strongest activations of a channel.

The receptive field of a unit is the rectangle of pixels that its value depends on. For a chain of convolutions and
poolings with kernels k_l and strides s_l its side is 1 + Σ_l (k_l − 1) Π_{i<l} s_i. Here it is determined for any
network, with any branches: NaN propagates to everything computed from it, so the left edge of the field is the smallest
x for which NaN in the columns 0 to x makes the unit NaN. Bisection finds it, and the other edges likewise. The field of
layers that depend on the whole image (attention, squeeze-and-excitation, layer norm) is the whole image.

Sources: https://cs231n.github.io/understanding-cnn/ (images that maximally activate a neuron); R. Girshick et al.,
arXiv 1311.2524

    python -m pipelines.interpret features --ckpt logs/convnet/RUN --layer stages.1 --images photos --out features

Shapes: B images, C channels, H×W pixels, M channels of a layer, h×w positions of its maps, U units.
"""

from collections.abc import Sequence
from copy import deepcopy
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.interpretation.feature_extraction import captured_outputs, find_layer

_CHUNK = 8  # images with NaN in a batch


class Box(NamedTuple):
    """A rectangle of pixels, counted from the top left; x1 and y1 are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int


class Unit(NamedTuple):
    """An activation in a layer's maps and its position.

    Attributes:
        value: Activation.
        image: Index of the image in its batch.
        row: Row of the unit in the map.
        column: Column of the unit in the map.
    """

    value: float
    image: int
    row: int
    column: int


class _LayerReached(Exception):  # not an error
    """Ends a forward pass after the layer that is needed."""


def strongest_units(maps: Tensor, count: int) -> list[list[Unit]]:
    """Returns, for each channel of maps (B, M, h, w), the strongest unit in each of the `count` strongest images."""
    width = maps.shape[3]
    values, positions = maps.flatten(2).max(2)  # (B, M)
    strongest, images = values.topk(min(count, len(maps)), dim=0)  # (count, M)
    positions = positions.gather(0, images)
    return [
        [Unit(value, image, *divmod(position, width)) for value, image, position in zip(*columns, strict=True)]
        for columns in zip(strongest.mT.tolist(), images.mT.tolist(), positions.mT.tolist(), strict=True)
    ]


@torch.no_grad()
def receptive_fields(
    model: nn.Module, layer: str, image_shape: tuple[int, int, int], units: Sequence[tuple[int, int]]
) -> list[Box]:
    """Returns the receptive field of each unit (row, column) of a layer in images (C, H, W), cut at the image's border.

    Raises:
        ValueError: If there is no such layer.
    """
    # In float64 on the CPU convolutions are plain sums; Winograd and similar algorithms would spread NaN further.
    probe = deepcopy(model).cpu().double().eval()
    probe.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))  # a preprocessing may cast to float32
    find_layer(probe, layer, torch.zeros(1, *image_shape, dtype=torch.float64))
    rows, columns = sorted({row for row, _ in units}), sorted({column for _, column in units})
    down = dict(zip(rows, _extents(probe, layer, image_shape, 2, rows), strict=True))
    across = dict(zip(columns, _extents(probe, layer, image_shape, 3, columns), strict=True))
    return [Box(across[column][0], down[row][0], across[column][1], down[row][1]) for row, column in units]


def _extents(
    model: nn.Module, layer: str, image_shape: tuple[int, int, int], axis: int, positions: Sequence[int]
) -> list[tuple[int, int]]:
    """Returns the half-open range of pixels along an axis (2 down, 3 across) that each map position depends on."""
    probe = _Probe(model, layer, image_shape, axis)
    margins = []
    for from_end in (False, True):
        # In most networks the fields are as far apart as the positions, so one field predicts the others.
        middle = positions[len(positions) // 2]
        (margin,) = probe.margins([middle], from_end, [0])
        jump = -probe.jump if from_end else probe.jump
        guesses = [margin + jump * (position - middle) for position in positions]
        margins.append(probe.margins(positions, from_end, guesses))
    return [(first, image_shape[axis - 1] - last) for first, last in zip(*margins, strict=True)]


class _Probe:
    """Determines which pixels along an axis of the image (2 down, 3 across) a layer's map positions depend on."""

    def __init__(self, model: nn.Module, layer: str, image_shape: tuple[int, int, int], axis: int) -> None:
        self.model, self.layer, self.image_shape, self.axis = model, layer, image_shape, axis
        self.side = image_shape[axis - 1]
        maps = _run_until(model, layer, torch.zeros(1, *image_shape, dtype=torch.float64))
        self.jump = round(self.side / maps.shape[axis])  # pixels from one position to the next

    def margins(self, positions: Sequence[int], from_end: bool, guesses: Sequence[int]) -> list[int]:
        """Returns how many pixels at one end of the image each map position does not depend on.

        A correct guess saves the bisection.
        """
        low, high = torch.zeros(len(positions), dtype=torch.int64), torch.full((len(positions),), self.side - 1)
        guessed = torch.tensor(guesses, dtype=torch.int64)
        for attempt in count():
            unsettled = (low < high).nonzero().flatten()
            if not len(unsettled):
                break
            tried = guessed - attempt if attempt < 2 else (low + high) // 2  # the guess, one pixel less, then bisection
            tried = tried.clamp(low, high - 1)
            reached = torch.zeros(len(positions), dtype=torch.bool)
            reached[unsettled] = self._becomes_nan(torch.tensor(positions)[unsettled], tried[unsettled], from_end)
            high, low = torch.where(reached, tried, high), torch.where((low < high) & ~reached, tried + 1, low)
        return [int(margin) for margin in low]

    def _becomes_nan(self, positions: Tensor, last: Tensor, from_end: bool) -> Tensor:
        """Returns whether map positions (U,) are NaN if the pixels 0 to `last` (U,) from one end of the image are."""
        results = []
        for chunk, last_of_chunk in zip(positions.split(_CHUNK), last.split(_CHUNK), strict=True):
            pixels = torch.arange(self.side)
            is_nan = (pixels.flip(0) if from_end else pixels) <= last_of_chunk[:, None]  # (u, side)
            images = torch.zeros(len(chunk), *self.image_shape, dtype=torch.float64)
            images.movedim(self.axis, 1)[is_nan] = torch.nan
            maps = _run_until(self.model, self.layer, images).movedim(self.axis, 1)  # (u, side of the map, M, other)
            results.append(maps[torch.arange(len(chunk)), chunk].isnan().flatten(1).any(1))
        return torch.cat(results)


def _run_until(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Returns the output of a layer for images (B, C, H, W), without running the layers after it."""

    def stop(*_: object) -> None:
        raise _LayerReached

    module = model.get_submodule(layer)
    with captured_outputs([module]) as outputs:
        hook = module.register_forward_hook(stop)
        try:
            model(images)
        except _LayerReached:
            pass
        finally:
            hook.remove()
    (maps,) = outputs
    assert maps is not None
    return maps
