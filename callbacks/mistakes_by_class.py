"""Draws the most confident false positives of each class.

The course's notebook on features ends with the question: do the misclassifications make sense?

Source: https://cs231n.github.io/assignments2024/assignment1/ (features.ipynb)

Shapes: B images in a batch, K classes, M mistakes shown.
"""

from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.logit_reader import LogitReader, gather
from callbacks.pictures import image_grid, show
from common.ranges import check_range

Mistake = tuple[float, int, int]  # probability, index in the split, true class


@runtime_checkable
class HasEvaluationImages(Protocol):
    """A data module that returns images for display, whatever the model's inputs are.

    Batch b of rank r contains the images from index (b · ranks + r) · batch_size of the split.
    """

    batch_size: int
    class_names: tuple[str, ...]

    def evaluation_images(self, split: str, indices: Tensor) -> Tensor:
        """Returns images of `val` or `test` by index, (M, C, H, W) with pixels in [0, 1]."""


class MistakesByClass(LogitReader):
    """Draws a row for each class with the most confident mistakes predicted as that class.

    Drawn at the end of `fit` (validation images) and of `test`. The pixels come from the data module, so it works for
    models on features too; data modules without `evaluation_images` have no picture.

    Args:
        count: Number of mistakes for each class, ≥ 1.

    Raises:
        ValueError: If the count is below 1.
    """

    def __init__(self, count: int = 8) -> None:
        check_range("count", count, count >= 1, "at least 1")
        self.count = count
        self.mistakes: dict[int, list[Mistake]] = {}  # by predicted class, most confident first

    def reset(self) -> None:
        self.mistakes = {}

    def keep(self, trainer: Trainer, logits: Tensor, images: Tensor, labels: Tensor, first: int) -> None:
        """Adds this batch's mistakes and keeps the most confident of each class."""
        if not isinstance(getattr(trainer, "datamodule", None), HasEvaluationImages):
            return
        probabilities, predicted = logits.float().softmax(1).max(1)
        wrong = (predicted != labels).nonzero().flatten()
        columns = (probabilities[wrong], first + wrong, labels[wrong], predicted[wrong])
        for probability, index, true, mistaken in zip(*(column.tolist() for column in columns), strict=True):
            self.mistakes.setdefault(mistaken, []).append((probability, index, true))
        self.mistakes = {label: _most_confident(mistakes, self.count) for label, mistakes in self.mistakes.items()}

    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        gathered: list[dict[int, list[Mistake]]] = gather(trainer, self.mistakes)
        data = getattr(trainer, "datamodule", None)
        if not any(gathered) or not isinstance(data, HasEvaluationImages):
            return
        names = data.class_names
        shown, titles = [], []
        for label in sorted(set().union(*gathered)):
            row = _most_confident([mistake for of_rank in gathered for mistake in of_rank.get(label, [])], self.count)
            missing = self.count - len(row)
            shown += [index for _, index, _ in row] + [-1] * missing
            titles += [f"{names[label]} {p:.0%}\nis {names[true]}" for p, _, true in row] + [""] * missing
        indices = torch.tensor(shown)
        images = data.evaluation_images(split, indices.clamp(min=0)).cpu()
        images[indices < 0] = 1.0  # white where a class has fewer
        show(
            trainer,
            f"mistakes_by_class/{split}",
            image_grid(images, titles, self.count, f"false positives of each class, {split}"),
        )


def _most_confident(mistakes: list[Mistake], count: int) -> list[Mistake]:
    """Returns the mistakes of highest probability; ties are resolved by the index in the split."""
    return sorted(mistakes, key=lambda mistake: (-mistake[0], mistake[1]))[:count]
