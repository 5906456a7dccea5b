"""Receptive fields and patches: which pixels a unit sees, and the image patches that excite a channel most.

The receptive field of a unit is the rectangle of pixels that its value depends on. For a chain of convolutions and
poolings with kernels k_l and strides s_l its side is 1 + Σ_l (k_l − 1) Π_{i<l} s_i. Here it is found for any network,
whatever its branches: a NaN spreads to all that is computed from it, so the field's left edge is the smallest x for
which NaN in the columns 0 to x makes the unit NaN. That is found by bisection, and the other edges likewise. Layers
that look at the whole image (attention, squeeze-and-excitation, layer norm) give the whole image.

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

from modules.interpretation.feature_extraction import captured, find_layer

_CHUNK = 8  # images with NaN that run at a time


class Box(NamedTuple):
    """Pixels from the top left; x1 and y1 lie just outside."""

    x0: int
    y0: int
    x1: int
    y1: int


class Unit(NamedTuple):
    """A place in the maps of a layer and what one channel had there.

    Attributes:
        value: the activation.
        image: place of the image in its batch.
        row: of the unit in the map.
        column: of the unit in the map.
    """

    value: float
    image: int
    row: int
    column: int


class _Reached(Exception):  # ends a forward pass, no error
    """The layer has run; the layers after it need not."""


def strongest_units(maps: Tensor, count: int) -> list[list[Unit]]:
    """For each channel of maps (B, M, h, w) its strongest unit in each image, of the `count` strongest images."""
    width = maps.shape[3]
    values, places = maps.flatten(2).max(2)  # (B, M)
    best, images = values.topk(min(count, len(maps)), dim=0)  # (count, M)
    places = places.gather(0, images)
    return [
        [Unit(value, image, *divmod(place, width)) for value, image, place in zip(*columns, strict=True)]
        for columns in zip(best.mT.tolist(), images.mT.tolist(), places.mT.tolist(), strict=True)
    ]


@torch.no_grad()
def receptive_fields(
    model: nn.Module, layer: str, image_shape: tuple[int, int, int], units: Sequence[tuple[int, int]]
) -> list[Box]:
    """The pixels that each unit (row, column) of a layer sees in images (C, H, W), cut at the image's border.

    Raises:
        ValueError: no such layer.
    """
    # In float64 on the CPU convolutions are plain sums; Winograd's and the like would spread NaN to their neighbors.
    probe = deepcopy(model).cpu().double().eval()
    probe.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))  # a preprocessing may cast to float32
    find_layer(probe, layer, torch.zeros(1, *image_shape, dtype=torch.float64))
    rows, columns = sorted({row for row, _ in units}), sorted({column for _, column in units})
    down = dict(zip(rows, _extents(probe, layer, image_shape, 2, rows), strict=True))
    across = dict(zip(columns, _extents(probe, layer, image_shape, 3, columns), strict=True))
    return [Box(across[column][0], down[row][0], across[column][1], down[row][1]) for row, column in units]


def _extents(
    model: nn.Module, layer: str, image_shape: tuple[int, int, int], axis: int, places: Sequence[int]
) -> list[tuple[int, int]]:
    """First pixel along an axis of the image (2 down, 3 across) that each place in the map sees, and past the last."""
    probe = _Probe(model, layer, image_shape, axis)
    ends = []
    for from_end in (False, True):
        # In most networks fields are as far apart as the places: one field tells where the others are likely to be.
        middle = places[len(places) // 2]
        (known,) = probe.first_seen([middle], from_end, [0])
        jump = -probe.jump if from_end else probe.jump
        ends.append(probe.first_seen(places, from_end, [known + jump * (place - middle) for place in places]))
    return [(first, image_shape[axis - 1] - last) for first, last in zip(*ends, strict=True)]


class _Probe:
    """Asks a layer which pixels along an axis of the image (2 down, 3 across) its places see."""

    def __init__(self, model: nn.Module, layer: str, image_shape: tuple[int, int, int], axis: int) -> None:
        self.model, self.layer, self.image_shape, self.axis = model, layer, image_shape, axis
        self.side = image_shape[axis - 1]
        maps = _run_until(model, layer, torch.zeros(1, *image_shape, dtype=torch.float64))
        self.jump = round(self.side / maps.shape[axis])  # pixels from one place to the next

    def first_seen(self, places: Sequence[int], from_end: bool, guesses: Sequence[int]) -> list[int]:
        """How many pixels at one end of the image each place does not see; a right guess saves the bisection."""
        low, high = torch.zeros(len(places), dtype=torch.int64), torch.full((len(places),), self.side - 1)
        guessed = torch.tensor(guesses, dtype=torch.int64)
        for attempt in count():
            left = (low < high).nonzero().flatten()
            if not len(left):
                break
            asked = guessed - attempt if attempt < 2 else (low + high) // 2  # a guess, and that nothing less will do
            asked = asked.clamp(low, high - 1)
            seen = torch.zeros(len(places), dtype=torch.bool)
            seen[left] = self._becomes_nan(torch.tensor(places)[left], asked[left], from_end)
            high, low = torch.where(seen, asked, high), torch.where((low < high) & ~seen, asked + 1, low)
        return [int(first) for first in low]

    def _becomes_nan(self, places: Tensor, reach: Tensor, from_end: bool) -> Tensor:
        """Whether places (U,) in the map are NaN if the pixels 0 to `reach` (U,) from one end of the image are."""
        found = []
        for chunk, reached in zip(places.split(_CHUNK), reach.split(_CHUNK), strict=True):
            pixels = torch.arange(self.side)
            broken = (pixels.flip(0) if from_end else pixels) <= reached[:, None]  # (u, side)
            images = torch.zeros(len(chunk), *self.image_shape, dtype=torch.float64)
            images.movedim(self.axis, 1)[broken] = torch.nan
            maps = _run_until(self.model, self.layer, images).movedim(self.axis, 1)  # (u, side of the map, M, other)
            found.append(maps[torch.arange(len(chunk)), chunk].isnan().flatten(1).any(1))
        return torch.cat(found)


def _run_until(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    """The output of a layer for images (B, C, H, W), without running what comes after it."""

    def stop(*_: object) -> None:
        raise _Reached

    wanted = model.get_submodule(layer)
    with captured([wanted]) as outputs:
        hook = wanted.register_forward_hook(stop)
        try:
            model(images)
        except _Reached:
            pass
        finally:
            hook.remove()
    (maps,) = outputs
    assert maps is not None
    return maps
