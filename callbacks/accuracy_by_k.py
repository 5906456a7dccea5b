"""Plots the accuracy of k-nearest neighbors against k, the curve by which validation chooses k.

Source: https://cs231n.github.io/classification/#validation-sets-for-hyperparameter-tuning
"""

from typing import Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import figure_to_array, show


@runtime_checkable
class HasAccuracyByK(Protocol):
    """A model that keeps its accuracy for each k in the last evaluation."""

    accuracy_by_k: Tensor  # (k_max,): accuracy with 1, 2, … neighbors
    k: int  # number of neighbors that it classifies with


class AccuracyByK(Callback):
    """Plots accuracy against k at the end of `fit` (validation images) and of `test`."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "test")

    def _show(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        if not isinstance(pl_module, HasAccuracyByK):
            return  # nothing was evaluated, or the model is not kNN
        picture = draw_accuracy_by_k(pl_module.accuracy_by_k.cpu().numpy(), pl_module.k, split)
        show(trainer, f"accuracy_by_k/{split}", picture, caption=split)


def draw_accuracy_by_k(accuracies: np.ndarray, k: int, split: str) -> np.ndarray:
    """Plots accuracies (k_max,), the largest and that of `k` marked; returns the picture (height, width, 3) uint8."""
    from matplotlib.figure import Figure  # takes 0.3 s to import

    best = int(accuracies.argmax()) + 1
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    axis = figure.subplots()
    axis.plot(range(1, len(accuracies) + 1), accuracies, marker="." if len(accuracies) <= 60 else None)
    axis.axvline(k, color="black", linewidth=0.8, label=f"k = {k}: {accuracies[k - 1]:.2%}")
    axis.plot(
        best, accuracies[best - 1], "o", color="tab:red", label=f"largest, k = {best}: {accuracies[best - 1]:.2%}"
    )
    axis.set_xlabel("k, number of neighbors")
    axis.set_ylabel(f"{split}/accuracy")
    axis.set_title(f"{split}: accuracy by number of neighbors", fontsize=10)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    return figure_to_array(figure)
