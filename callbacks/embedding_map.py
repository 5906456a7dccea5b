"""Draws an embedding map: features of images projected to two dimensions, colored by class.

    pca     projection to the two directions of largest variance
    tsne    t-SNE of unit vectors, which preserves neighborhoods; distances between clusters mean little
            (L. van der Maaten, G. Hinton, "Visualizing data using t-SNE", Journal of Machine Learning Research, 2008)

Source: https://cs231n.github.io/understanding-cnn/
"""

from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import figure_to_array, show
from common.errors import UserError
from common.messages.counting import count
from common.ranges import check_range
from modules.interpretation.feature_extraction import evaluating

Method = Literal["pca", "tsne"]


@runtime_checkable
class HasFeatures(Protocol):
    """A model that computes feature vectors of images."""

    def features(self, images: Tensor) -> Tensor:
        """Returns features (B, F) of images (B, C, H, W)."""


class EmbeddingMap(Callback):
    """Draws a map of the first validation images at the end of `fit`, and of the first test images after `test`.

    Args:
        count: Number of images on the map, ≥ 3.
        method: Projection: pca or tsne.

    Raises:
        ValueError: If a value is out of its range or the model has no features.
    """

    def __init__(self, count: int = 2000, method: Method = "tsne") -> None:
        check_range("count", count, count >= 3, "at least 3")
        check_range("method", repr(method), method in get_args(Method), f"one of {', '.join(get_args(Method))}")
        self.count = count
        self.method: Method = method
        self._kept: list[tuple[Tensor, Tensor]] = []  # inputs (B, ...) and labels (B,) of the latest evaluation

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, HasFeatures):
            raise UserError(
                f"{type(pl_module).__name__} has no features to map; remove callbacks.EmbeddingMap from "
                "trainer.callbacks."
            )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._kept = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._kept = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if sum(len(labels) for _, labels in self._kept) < self.count:
            self._kept.append((batch[0].clone(), batch[1].clone()))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs, batch)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "test")

    @torch.no_grad()
    def _show(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        assert isinstance(pl_module, HasFeatures)
        if sum(len(labels) for _, labels in self._kept) < 3:
            return
        with evaluating(pl_module):
            features = torch.cat([pl_module.features(images).float().cpu() for images, _ in self._kept])[: self.count]
        labels = torch.cat([labels for _, labels in self._kept])[: self.count].cpu()
        self._kept = []
        names = getattr(getattr(trainer, "datamodule", None), "class_names", None)
        points = project(features, self.method)
        title = f"{split}: features of {count(len(labels), 'image')}, {'PCA' if self.method == 'pca' else 't-SNE'}"
        show(trainer, f"embedding_map/{split}", draw_map(points, labels.numpy(), names, title), caption=split)


def project(features: Tensor, method: Method) -> np.ndarray:
    """Projects features (N, F) to points in the plane, (N, 2)."""
    if method == "pca":
        centered = features.double() - features.double().mean(0)
        _, _, directions = torch.linalg.svd(centered, full_matrices=False)
        axes = directions[:2]
        axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # a direction's sign is arbitrary
        return (centered @ axes.mT).numpy()
    from sklearn.manifold import TSNE

    units = torch.nn.functional.normalize(features).numpy()
    perplexity = min(30.0, (len(units) - 1) / 3)
    points: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(units)
    return points


def draw_map(points: np.ndarray, labels: np.ndarray, names: tuple[str, ...] | None, title: str) -> np.ndarray:
    """Draws points (N, 2) colored by label (N,), with a legend; returns the picture (height, width, 3) uint8."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6.5), dpi=120, layout="constrained")
    axis = figure.subplots()
    classes = np.unique(labels)
    palette = colormaps["tab10" if len(classes) <= 10 else "tab20"]
    for number, label in enumerate(classes):
        members = points[labels == label]
        name = names[label] if names else str(label)
        axis.scatter(
            members[:, 0], members[:, 1], s=9, alpha=0.8, linewidths=0, color=palette(number % palette.N), label=name
        )
    axis.set_title(title)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.5, frameon=False)
    return figure_to_array(figure)
