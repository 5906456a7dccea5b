"""Draws the structure of a Transformer captioner with the shapes of its own configuration.

Encoder at the left, decoder at the right, both from the bottom up, as in A. Vaswani et al., arXiv 1706.03762, figure 1.
Shapes: B images in a batch, L positions of the grid, T words, V words in the vocabulary, H heads of D_h, D width.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.pictures import figure_to_array, show
from callbacks.transformer_blocks import Block, transformer_blocks
from common.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PARTS = ("encoder", "encoder_layers", "layers", "embedding", "output")
_COLORS = {
    "input": "#eeeeee",
    "attention": "#ffe2bb",
    "feed-forward": "#c1e8f7",
    "norm": "#f3f5c1",
    "affine": "#dcdff0",
}
_WIDTH, _HEIGHT, _GAP = 4.4, 0.62, 0.62  # of a box, and between two boxes


class TransformerDiagram(Callback):
    """Draws the structure of a Transformer captioner, with the shapes of the first training batch.

    Raises:
        ValueError: If the model is not a Transformer captioner.
    """

    def __init__(self) -> None:
        self._drawn = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not all(hasattr(pl_module, name) for name in _PARTS):
            raise UserError(
                f"{type(pl_module).__name__} is not a Transformer captioner; remove callbacks.TransformerDiagram from "
                "trainer.callbacks."
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self._drawn:
            self._drawn = True
            blocks = transformer_blocks(pl_module, batch[0][:2], batch[1][:2, :-1])
            show(trainer, "structure", transformer_diagram(pl_module, *blocks), caption="structure and shapes")


def transformer_diagram(model: Any, encoder: list[Block], decoder: list[Block]) -> np.ndarray:
    """Draws the blocks of encoder and decoder; returns the picture, (height, width, 3) uint8."""
    from matplotlib.figure import Figure

    tallest = max(len(encoder), len(decoder)) * (_HEIGHT + _GAP) + 0.3
    figure = Figure(figsize=(11.5, 0.72 * tallest + 0.3), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 16.5)
    axes.set_ylim(-0.3, tallest)
    axes.axis("off")
    left = _draw_stack(axes, encoder, 1.4, len(model.encoder_layers), -1)
    right = _draw_stack(axes, decoder, 9.0, len(model.layers), 1)
    heads = model.layers[0].cross_attention.num_heads
    size, memory = model.embedding.weight.shape[1] // heads, len(model.encoder.positions)
    label = f"keys, values\n(B, {heads}, {memory}, {size})"
    target = next(y for y, block in zip(right, decoder, strict=True) if block.text.startswith("cross"))
    start, bend = (1.4 + _WIDTH / 2, left[-1] + _HEIGHT), 7.2
    top = start[1] + 0.8 * _GAP
    axes.plot([start[0], start[0], bend, bend], [start[1], top, top, target + _HEIGHT / 2], color="black", linewidth=1)
    arrow = {"arrowstyle": "->", "linewidth": 1}
    axes.annotate("", (9.0, target + _HEIGHT / 2), (bend, target + _HEIGHT / 2), arrowprops=arrow)
    axes.text(bend + 0.12, target + _HEIGHT / 2 + 0.12, label, fontsize=8, va="bottom")
    axes.text(9.0, right[-1] + _HEIGHT + _GAP / 2, "softmax gives P(next word):", fontsize=8, va="center")
    return figure_to_array(figure)


def _draw_stack(axes: "Axes", blocks: list[Block], x: float, layers: int, side: int) -> list[float]:
    """Draws blocks from the bottom up with arrows and residual connections; returns the lower edge of each."""
    from matplotlib.patches import FancyBboxPatch

    edges = [i * (_HEIGHT + _GAP) for i in range(len(blocks))]
    middle = x + _WIDTH / 2
    arrow = {"arrowstyle": "->", "linewidth": 1}
    for edge, block in zip(edges, blocks, strict=True):
        style: dict[str, Any] = {"boxstyle": "round,pad=0.02", "edgecolor": "black", "linewidth": 0.8}
        style["facecolor"] = _COLORS[block.kind]
        axes.add_patch(FancyBboxPatch((x, edge), _WIDTH, _HEIGHT, **style))
        text = f"{block.text}\n{block.parameters:,} parameters" if block.parameters else block.text
        axes.text(middle, edge + _HEIGHT / 2, text, ha="center", va="center", fontsize=7.5, linespacing=1.5)
        axes.text(middle + 0.14, edge + _HEIGHT + _GAP / 2, block.shape, fontsize=7.5, color="tab:blue", va="center")
    for below, above in pairwise(edges):
        axes.annotate("", (middle, above), (middle, below + _HEIGHT), arrowprops=arrow)
    repeated = [(edge, block) for edge, block in zip(edges, blocks, strict=True) if block.repeated]
    if not repeated:
        return edges
    outer = middle + side * (_WIDTH / 2 + 0.4)
    # Two blocks a sublayer, a norm before it or after the sum: x + f(norm(x)), or norm(x + f(x)).
    for (first, lower), (second, _) in zip(repeated[::2], repeated[1::2], strict=True):
        low, high = first - 0.2 * _GAP, (second if lower.kind == "norm" else first) + _HEIGHT + 0.2 * _GAP
        axes.plot([middle, outer, outer, middle], [low, low, high, high], color="0.45", linewidth=1)
        box = {"boxstyle": "circle,pad=0.05", "facecolor": "white", "edgecolor": "0.45"}
        axes.text(middle, high, "+", ha="center", va="center", fontsize=7, bbox=box)
    low, high = repeated[0][0] - 0.32 * _GAP, repeated[-1][0] + _HEIGHT + 0.34 * _GAP
    start, end = sorted((middle - side * (_WIDTH / 2 + 0.2), outer + side * 0.25))
    axes.plot([start, end, end, start, start], [low, low, high, high, low], color="0.6", linewidth=1, linestyle="--")
    at = start - 0.15 if side < 0 else end + 0.15
    axes.text(at, (low + high) / 2, f"× {layers}", fontsize=11, ha="right" if side < 0 else "left", va="center")
    return edges
