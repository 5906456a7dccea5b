"""Draws the confusion matrix of the last validation and of the test, also as a chart of W&B."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.media import Chart, log_chart
from callbacks.pictures import DPI, Text, figure_to_array, show, write_texts
from common.messages.counting import count


@runtime_checkable
class HasConfusionMatrix(Protocol):
    """A model that keeps the confusion matrix of its last evaluation."""

    confusion_matrix: Tensor  # (K, K) int64, rows the true classes, columns the predicted ones


class ConfusionMatrix(Callback):
    """Draws the confusion matrix at the end of `fit` (validation images) and of `test`."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "test")

    def _show(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        if not isinstance(pl_module, HasConfusionMatrix):
            return  # nothing was evaluated, or the model is not a classifier
        matrix = pl_module.confusion_matrix.cpu().numpy()
        data = getattr(trainer, "datamodule", None)
        names = getattr(data, "class_names", [str(i) for i in range(len(matrix))])
        show(trainer, f"confusion/{split}", draw_confusion_matrix(matrix, names, split), caption=split)
        log_chart(trainer, f"charts/confusion/{split}", confusion_chart(matrix, names, split))


def confusion_chart(matrix: np.ndarray, names: Sequence[str], split: str) -> Chart:
    """Returns W&B's chart of counts (K, K)."""
    columns = ("Actual", "Predicted", "nPredictions")
    rows = [
        (str(names[true]), str(names[predicted]), int(number)) for (true, predicted), number in np.ndenumerate(matrix)
    ]
    return Chart(
        "wandb/confusion_matrix/v1",
        columns,
        rows,
        dict(zip(columns, columns, strict=True)),
        {"title": f"{split} images"},
    )


def draw_confusion_matrix(matrix: np.ndarray, names: Sequence[str], split: str) -> np.ndarray:
    """Draws counts (K, K) as percentages of each row; returns the picture (height, width, 3) uint8."""
    from matplotlib.figure import Figure  # takes 0.3 s to import

    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    cells = max(0.52 * len(names), 4.0)  # inches, wide enough for the title
    longest = 0.065 * max(map(len, map(str, names)))  # inches
    left, bottom, top, right = longest + 0.55, 0.72 * longest + 0.5, 0.35, 0.3
    width, height = left + cells + right, bottom + cells + top
    figure = Figure(figsize=(width, height), dpi=DPI)
    # A layout that measures all texts takes as long as drawing them.
    axis = figure.add_axes((left / width, bottom / height, cells / width, cells / height))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8, parse_math=False)
    axis.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    accuracy = matrix.trace() / max(matrix.sum(), 1)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true class")
    title = f"{split}: % of each true class; accuracy {accuracy:.1%} of {count(int(matrix.sum()), 'image')}"
    axis.set_title(title, fontsize=10, x=(width / 2 - left) / cells)  # in the middle of the figure
    picture = figure_to_array(figure)
    if len(names) > 20:
        return picture
    cell = cells * DPI / len(names)  # pixels
    texts = []
    for row, column in np.ndindex(*shares.shape):
        center = (left * DPI + (column + 0.5) * cell, top * DPI + (row + 0.5) * cell)
        texts.append(
            Text(f"{100 * shares[row, column]:.0f}", center, "white" if shares[row, column] > 0.5 else "black")
        )
    return write_texts(picture, texts)
