"""Pictures of captions: images with generated and reference captions, and attention maps for each word.

Shapes: B images, C channels, H×W pixels, T words, L = h × w grid positions, row by row.
"""

from collections.abc import Sequence
from math import isqrt
from textwrap import wrap
from typing import TYPE_CHECKING, Any

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
    """Draws images with the generated caption, green if it is one of the references, and a reference in gray.

    Args:
        images: Images (B, C, H, W) in [0, 1].
        captions: Generated caption of each image.
        references: References of each image; may be empty.
        title: Title of the picture.

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
        exact = caption in known
        text = "\n".join(wrap(caption, _LINE)[:4]) or "(nothing)"
        # parse_math: a "$" in a caption would begin a formula.
        style: dict[str, Any] = {"transform": axis.transAxes, "va": "top", "fontsize": 8, "parse_math": False}
        axis.text(0, -0.03, text, color="green" if exact else "black", **style)
        if known and not exact:
            lines = text.count("\n") + 1
            below = "\n".join(wrap(known[0], _LINE)[:3])
            axis.text(0, -0.05 - 0.075 * lines, below, color="gray", **style)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure_to_array(figure)


def attention_sheet(image: Tensor, words: Sequence[str], attention: Tensor) -> np.ndarray:
    """Draws an image, then for each word the image with its brightness scaled by the attention.

    Args:
        image: Image (C, H, W) in [0, 1].
        words: The T words of the caption.
        attention: Attention weights (T, L), rows ≥ 0 with sum 1; L is a square number.

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
    for axis, word, weights in zip(axes[1:], words, maps, strict=False):
        _draw(axis, image * (0.15 + 0.85 * weights / weights.max().clamp(min=1e-12)))
        axis.set_title(word, fontsize=9, parse_math=False)
    return figure_to_array(figure)


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks pictures (height, width, 3) uint8 vertically, with white beside narrower ones."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures])


def _draw(axis: "Axes", image: Tensor) -> None:
    pixels = image.detach().float().cpu().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()
    axis.imshow(pixels, interpolation="nearest")
