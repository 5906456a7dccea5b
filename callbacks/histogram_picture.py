"""Draws histograms of layers: a row for each layer, with its weights, gradients and activations side by side."""

from dataclasses import dataclass, field

import numpy as np

from callbacks.media import Histogram
from callbacks.pictures import Text, write_texts

_CELL, _BARS, _HEADER, _SCALE, _GAP = 300, 44, 66, 22, 16  # widths and heights in pixels
_LETTER = 9  # largest width of a letter of a name in pixels
_COLORS = {"weights": (31, 119, 180), "gradients": (255, 127, 14), "activations": (44, 160, 44)}
_MOST_ROWS = 60  # of a picture


@dataclass
class LayerHistograms:
    """Histograms of one layer; None where it has no finite values.

    Attributes:
        layer: Class of the layer, such as "Linear".
        weights: Of each weight by what its name adds to "weight": "" for most layers.
        gradients: Of the gradient of each weight.
        activations: Of the layer's outputs.
    """

    layer: str
    weights: dict[str, Histogram | None] = field(default_factory=dict)
    gradients: dict[str, Histogram | None] = field(default_factory=dict)
    activations: Histogram | None = None


def draw_histograms(layers: dict[str, LayerHistograms], title: str) -> np.ndarray:
    """Draws the histograms of layers by name, each with its own range; (height, width, 3) uint8.

    Below each are its smallest and largest value, its standard deviation and, if there are any, the share of zeros.
    """
    rows = [row for name, of_layer in layers.items() for row in _rows(name, of_layer)]
    if len(rows) > _MOST_ROWS:
        title += f"; the first {_MOST_ROWS} of {len(rows)} rows"
        rows = rows[:_MOST_ROWS]
    width = _LETTER * max((len(line) for name, _ in rows for line in name.split("\n")), default=0) + _GAP
    height = _HEADER + len(rows) * (_BARS + _SCALE + _GAP)
    picture = np.full((height, width + 3 * (_CELL + _GAP), 3), 255, np.uint8)
    texts = [Text(title, (picture.shape[1] / 2, 20), points=11)]
    lefts = {kind: width + column * (_CELL + _GAP) for column, kind in enumerate(_COLORS)}
    texts += [Text(kind, (left + _CELL / 2, _HEADER - 16), points=9) for kind, left in lefts.items()]
    for index, (name, of_row) in enumerate(rows):
        top = _HEADER + index * (_BARS + _SCALE + _GAP)
        texts.append(Text(name, (width / 2, top + _BARS / 2)))
        for kind, values in of_row.items():
            if values is not None:
                left = lefts[kind]
                _draw_bars(picture[top : top + _BARS, left : left + _CELL], values.counts, _COLORS[kind])
                below = top + _BARS + _SCALE / 2
                zeros = f"   {values.zeros:.0%} zeros" if values.zeros > 0.005 else ""
                texts.append(Text(f"std {values.std:.2g}{zeros}", (left + _CELL / 2, below), "dimgray", 6.5))
                for x, end in ((left + 24, values.edges[0]), (left + _CELL - 24, values.edges[-1])):
                    texts.append(Text(f"{end:.2g}", (x, below), "dimgray", 6.5))
    return write_texts(picture, texts)


def _rows(name: str, of_layer: LayerHistograms) -> list[tuple[str, dict[str, Histogram | None]]]:
    """Returns the rows of a layer: one for each weight, the first with the activations."""
    keys = list(of_layer.weights) or ([""] if of_layer.activations is not None else [])
    return [
        (
            f"{name}{'.' if key else ''}{key}\n{of_layer.layer}",
            {
                "weights": of_layer.weights.get(key),
                "gradients": of_layer.gradients.get(key),
                "activations": of_layer.activations if index == 0 else None,
            },
        )
        for index, key in enumerate(keys)
    ]


def _draw_bars(cell: np.ndarray, counts: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draws bars of counts (B,) into a cell (height, width, 3), the largest as high as the cell, and a base line."""
    height, width = cell.shape[:2]
    of_column = counts[np.arange(width) * len(counts) // width] / counts.max()
    heights = np.ceil(of_column * (height - 1)).astype(int)
    cell[np.arange(height)[:, None] >= height - 1 - heights] = color
    cell[-1] = (120, 120, 120)
