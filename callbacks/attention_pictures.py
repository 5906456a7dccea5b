"""Pictures of self-attention: word × word for a caption, position × position for an image, by layer and head.

Shapes: H heads, T words, L = h × w grid positions, row by row, C channels, H×W pixels of an image.
"""

from collections.abc import Sequence
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from callbacks.pictures import figure_to_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MASKED = "0.85"  # gray


def word_attention_sheet(words: Sequence[str], layers: Sequence[Tensor]) -> np.ndarray:
    """Draws the weights of causal self-attention: a row of panels for each layer, a panel for each head.

    A panel's row is the word read last, its columns the words that it attends to. Later words are masked, drawn gray.

    Args:
        words: The T words read.
        layers: Weights of each layer (H, T, T), rows with sum 1, 0 right of the diagonal.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    from matplotlib.figure import Figure  # takes 0.3 s to import

    heads, count = layers[0].shape[:2]
    side = max(2.2, 0.21 * count)
    figure = Figure(figsize=(side * heads + 1.4, side * len(layers) + 0.9), dpi=110, layout="constrained")
    grid = figure.subplots(len(layers), heads, squeeze=False, sharex=True, sharey=True)
    visible = np.tril(np.ones((count, count), bool))
    for number, (row, weights) in enumerate(zip(grid, layers, strict=True), start=1):
        for head, (axes, panel) in enumerate(zip(row, weights.detach().float().cpu().numpy(), strict=True), start=1):
            axes.set_facecolor(_MASKED)
            shown = axes.imshow(np.ma.masked_where(~visible, panel), cmap="viridis", vmin=0, vmax=1)
            axes.set_title(f"layer {number}, head {head}", fontsize=9)
            axes.set_xticks(range(count), words, rotation=90, fontsize=7, parse_math=False)
            axes.set_yticks(range(count), words, fontsize=7, parse_math=False)
    grid[-1, 0].set_xlabel("attends to", fontsize=8)
    grid[0, 0].set_ylabel("word read", fontsize=8)
    figure.colorbar(shown, ax=grid, shrink=0.6, label="weight; gray: masked")
    return figure_to_array(figure)


def image_attention_sheet(image: Tensor, layers: Sequence[Tensor]) -> np.ndarray:
    """Draws the weights of self-attention over an image's grid: two rows of panels for each layer, a panel a head.

    The upper row has all weights, a row of a panel for each query position. In the lower row the brightness of the
    image is scaled by the weights of one query: the position with the most contrast, marked red.

    Args:
        image: Image (C, H, W) in [0, 1].
        layers: Weights of each layer (H, L, L), rows with sum 1; L is a square number.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    heads, count = layers[0].shape[:2]
    side = isqrt(count)
    image = image.detach().float().cpu().clamp(0, 1)
    query = contrast_position(image, side)
    figure = Figure(figsize=(1.9 * (heads + 1), 4.0 * len(layers)), dpi=110, layout="constrained")
    grid = figure.subplots(2 * len(layers), heads + 1, squeeze=False)
    for number, weights in enumerate(layers, start=1):
        upper, lower = grid[2 * number - 2], grid[2 * number - 1]
        upper[0].axis("off")
        upper[0].text(0, 0.5, "all weights\nrow: query position\ncolumn: attends to", fontsize=8, va="center")
        _draw(lower[0], image)
        lower[0].set_title("one query", fontsize=8)
        for head, panel in enumerate(weights.detach().float().cpu(), start=1):
            upper[head].imshow(panel.numpy(), cmap="viridis", vmin=0)
            upper[head].set_title(f"layer {number}, head {head}", fontsize=8)
            upper[head].set_xticks([0, count - 1], [1, count], fontsize=6)
            upper[head].set_yticks([0, count - 1], [1, count], fontsize=6)
            brightness = F.interpolate(panel[query].view(1, 1, side, side), size=image.shape[1:], mode="nearest")[0]
            _draw(lower[head], image * (0.3 + 0.7 * brightness / brightness.max()))
        height, width = (size / side for size in image.shape[1:])
        corner = query % side * width - 0.5, query // side * height - 0.5
        for axes in lower:
            axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="red", linewidth=1.2))
    return figure_to_array(figure)


def contrast_position(image: Tensor, side: int) -> int:
    """Returns the index of the cell of a side × side grid where the pixels (C, H, W) vary most."""
    mean, square = (F.adaptive_avg_pool2d(part, side) for part in (image, image.square()))
    return int((square - mean.square()).sum(0).flatten().argmax())


def _draw(axes: "Axes", image: Tensor) -> None:
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    axes.axis("off")
