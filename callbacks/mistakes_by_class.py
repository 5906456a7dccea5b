"""Shows what a classifier takes for each class although it is none of it: which mistakes each class attracts.

The course's notebook on features ends with this question: do the mistakes look as if they made sense?

Source: https://cs231n.github.io/assignments2024/assignment1/ (features.ipynb)

Shapes: B images in a batch, K classes, M mistakes shown.
"""

from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import image_grid, show
from common.errors import UserError

Mistake = tuple[float, int, int]  # probability, place in the split, true class


@runtime_checkable
class HasEvaluationImages(Protocol):
    """Data whose images can be looked at, whatever the model is given of them.

    Batch b of process r holds the images from place (b · processes + r) · batch_size of the split.
    """

    batch_size: int
    class_names: tuple[str, ...]

    def evaluation_images(self, split: str, indices: Tensor) -> Tensor:
        """Images by their places in `val` or `test`: pixels in [0, 1], (M, C, H, W)."""


class MistakesByClass(Callback):
    """A row of pictures for each class: the most confident mistakes that were assigned to it.

    Drawn at the end of `fit` (validation images) and of `test`, from the logits (B, K) that the model's validation and
    test steps return. The pixels come from the data, so that a model on features can be looked at too; data that can't
    give them have no picture.

    Args:
        count: how many to show for a class, at least 1.

    Raises:
        ValueError: a count below 1.
    """

    def __init__(self, count: int = 8) -> None:
        if count < 1:
            raise UserError(f"count is {count}; give at least 1 mistake to show for each class.")
        self.count = count
        self.mistakes: dict[int, list[Mistake]] = {}  # by the class that they were assigned to, the surest first

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mistakes = {}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mistakes = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._keep(trainer, outputs, batch[1], batch_idx)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._keep(trainer, outputs, batch[1], batch_idx)

    @torch.no_grad()
    def _keep(self, trainer: Trainer, logits: Tensor, labels: Tensor, batch_idx: int) -> None:
        """Adds this batch's mistakes and keeps the surest of each class: logits (B, K), labels (B,)."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, HasEvaluationImages):
            return
        first = (batch_idx * trainer.world_size + trainer.global_rank) * data.batch_size
        probabilities, predicted = logits.float().softmax(1).max(1)
        wrong = (predicted != labels).nonzero().flatten()
        columns = (probabilities[wrong], first + wrong, labels[wrong], predicted[wrong])
        for share, place, true, said in zip(*(column.tolist() for column in columns), strict=True):
            self.mistakes.setdefault(said, []).append((share, place, true))
        self.mistakes = {said: _surest(found, self.count) for said, found in self.mistakes.items()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, "test")

    def _show(self, trainer: Trainer, split: str) -> None:
        gathered: list[dict[int, list[Mistake]]] = [self.mistakes]
        if trainer.world_size > 1:
            gathered = [{} for _ in range(trainer.world_size)]
            dist.all_gather_object(gathered, self.mistakes)
        data = getattr(trainer, "datamodule", None)
        if not any(gathered) or not isinstance(data, HasEvaluationImages):
            return
        names = data.class_names
        places, titles = [], []
        for said in sorted({said for found in gathered for said in found}):
            row = _surest([mistake for found in gathered for mistake in found.get(said, [])], self.count)
            missing = self.count - len(row)
            places += [place for _, place, _ in row] + [-1] * missing
            titles += [f"{names[said]} {share:.0%}\nis {names[true]}" for share, _, true in row] + [""] * missing
        indices = torch.tensor(places)
        images = data.evaluation_images(split, indices.clamp(min=0)).cpu()
        images[indices < 0] = 1.0  # white where a class has attracted fewer
        show(
            trainer,
            f"mistakes_by_class/{split}",
            image_grid(images, titles, self.count, f"what each class attracts, {split}"),
        )


def _surest(mistakes: list[Mistake], count: int) -> list[Mistake]:
    """The mistakes of highest probability; of equal ones those that come first in the split."""
    return sorted(mistakes, key=lambda mistake: (-mistake[0], mistake[1]))[:count]
