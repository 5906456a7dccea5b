"""Predictions as CSV: a row for each image with its class and all class probabilities, or its caption."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.console.outputs import check_out_file, path_cell, write_csv


class PredictionsCSV(Callback):
    """Collects the outputs of `predict_step`, probabilities (B, K) or B captions, and writes them at the end.

    Batches are those of a data module's `predict_dataloader`: images and their indices in `image_files`. The row of an
    image that can't be read has its name and empty cells.

    Args:
        file: CSV file to write, by rank 0 with the images of all ranks.
        inputs: Files that are read and must not be replaced, besides the images.

    Attributes:
        rows: Indices of the images and what was predicted for them; those of all ranks once `predict` has ended.
        report: Lines about files that were left out, once `predict` has ended.
        num_unreadable: Number of images that could not be read.
        only: What was predicted if it was one image, such as "cat.png  cat, probability 0.9312"; else None.

    Raises:
        ValueError: If the file is a folder or can't be written.
    """

    def __init__(self, file: Path, *inputs: Path) -> None:
        check_out_file(file, inputs)
        self.file = file
        self.rows: list[tuple[int, list[float] | str]] = []
        self.report: list[str] = []
        self.num_unreadable = 0
        self.only: str | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        check_out_file(self.file, data.image_files)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        predicted = outputs if isinstance(outputs, list) else outputs.tolist()
        self.rows += zip(batch[1].tolist(), predicted, strict=True)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._gather(trainer.world_size, data.given_images)
        data.given_images.check_any_readable()
        self.report, self.num_unreadable = (
            data.given_images.report(getattr(data, "brightness", None)),
            len(data.given_images.unreadable),
        )
        if trainer.is_global_zero:
            write_csv(self._table(data), self.file)
        if len(self.rows) == 1 and not self.num_unreadable:
            _, (name, predicted, *rest) = self._table(data)
            self.only = f"{name}  {predicted}" + (f", probability {float(rest[0]):.4f}" if rest else "")

    def _gather(self, world_size: int, images: Any) -> None:
        """Adds what the other ranks predicted, and could not read: each reads every `world_size`-th image only."""
        if world_size == 1:
            return
        of_ranks: list[Any] = [None] * world_size
        dist.all_gather_object(of_ranks, (self.rows, images.unreadable, images.brightness))
        self.rows = sorted(row for rows, *_ in of_ranks for row in rows)
        for _, unreadable, brightness in of_ranks:
            images.unreadable.update(unreadable)
            images.brightness.update(brightness)

    def _table(self, data: Any) -> Iterator[list[Any]]:
        """Yields the header and a row for each image."""
        captions = bool(self.rows) and isinstance(self.rows[0][1], str)
        header = ["image", "caption"] if captions else ["image", "class", "probability", *data.class_names]
        yield header
        for index, prediction in self.rows:
            cell = path_cell(data.image_files[index])
            if index in data.given_images.unreadable:
                yield [cell, *[""] * (len(header) - 1)]
                continue
            if isinstance(prediction, str):
                yield [cell, prediction]
                continue
            best = max(range(len(prediction)), key=prediction.__getitem__)
            probabilities = [f"{probability:.6f}" for probability in prediction]
            yield [cell, data.class_names[best], probabilities[best], *probabilities]
