"""Draws the confusion matrix of the last validation and of the test."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import figure_to_array, show
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


def draw_confusion_matrix(matrix: np.ndarray, names: Sequence[str], split: str) -> np.ndarray:
    """Draws counts (K, K) as percentages of each row; returns the picture (height, width, 3) uint8."""
    from matplotlib.figure import Figure  # takes 0.3 s to import

    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = 1.6 + 0.52 * len(names)
    figure = Figure(figsize=(side + 0.6, side), dpi=120, layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8, parse_math=False)
    axis.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    for row, column in np.ndindex(*shares.shape) if len(names) <= 20 else ():
        share = shares[row, column]
        color = "white" if share > 0.5 else "black"
        axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=color)
    accuracy = matrix.trace() / max(matrix.sum(), 1)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true class")
    axis.set_title(
        f"{split}: % of each true class; accuracy {accuracy:.1%} of {count(int(matrix.sum()), 'image')}", fontsize=10
    )
    return figure_to_array(figure)
