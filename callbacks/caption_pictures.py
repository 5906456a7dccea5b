"""Pictures of captions: images with what is said about them, and where the model looks as it says each word.

Shapes: B images, C channels, H×W pixels, T words, L = h × w places of the grid, row by row.
"""

from collections.abc import Sequence
from math import isqrt
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from callbacks.pictures import figure_to_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE = 30  # characters of a line below an image
_MAPS_IN_ROW = 8


def caption_sheet(
    images: Tensor, captions: Sequence[str], references: Sequence[Sequence[str]], title: str = ""
) -> np.ndarray:
    """Images, below each the generated caption, green if it is one of the references, and a reference in gray.

    Args:
        images: (B, C, H, W) in [0, 1].
        captions: B generated ones.
        references: those of each image; may be empty.
        title: of the whole picture.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    from matplotlib.figure import Figure  # takes 0.3 s to import

    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.3 * rows + 0.4), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, image, caption, known in zip(axes, images, captions, references, strict=False):
        _draw(axis, image)
        right = caption in known
        said = "\n".join(wrap(caption, _LINE)[:4]) or "(nothing)"
        axis.text(0, -0.03, said, transform=axis.transAxes, va="top", fontsize=8, color="green" if right else "black")
        if known and not right:
            lines = said.count("\n") + 1
            below = "\n".join(wrap(known[0], _LINE)[:3])
            axis.text(0, -0.05 - 0.075 * lines, below, transform=axis.transAxes, va="top", fontsize=8, color="gray")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure_to_array(figure)


def attention_sheet(image: Tensor, words: Sequence[str], attention: Tensor) -> np.ndarray:
    """One image, then for each word the image darkened where the model did not look.

    Args:
        image: (C, H, W) in [0, 1].
        words: T of them.
        attention: (T, L), each row at least 0 and summing to 1; L is a square number.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    from matplotlib.figure import Figure

    side = isqrt(attention.shape[1])
    maps = attention.detach().float().cpu().view(1, len(words), side, side)
    maps = F.interpolate(maps, size=image.shape[1:], mode="bicubic", antialias=False).clamp(min=0)[0]  # (T, H, W)
    panels = 1 + len(words)
    columns = min(_MAPS_IN_ROW, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    _draw(axes[0], image)
    for axis, word, seen in zip(axes[1:], words, maps, strict=False):
        _draw(axis, image * (0.15 + 0.85 * seen / seen.max().clamp(min=1e-12)))
        axis.set_title(word, fontsize=9)
    return figure_to_array(figure)


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (height, width, 3) uint8, one below the other, white beside the narrower ones."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures])


def _draw(axis: "Axes", image: Tensor) -> None:
    pixels = image.detach().float().cpu().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()
    axis.imshow(pixels, interpolation="nearest")
