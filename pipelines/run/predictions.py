"""Predictions as CSV: a row for each image with its class and all class probabilities, or its caption."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from common.atomic_files import atomic_write


class PredictionsCSV(Callback):
    """Collects the outputs of `predict_step`, probabilities (B, K) or B captions, and writes them at the end.

    Batches are those of a data module's `predict_dataloader`: images and their indices in `image_files`.

    Args:
        file: CSV file to write; rank 1 writes its images to NAME.rank1.csv, and so on.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[tuple[int, list[float] | str]] = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        predicted = outputs if isinstance(outputs, list) else outputs.tolist()
        self.rows += zip(batch[1].tolist(), predicted, strict=True)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rank = trainer.global_rank
        file = self.file.with_suffix(f".rank{rank}{self.file.suffix}") if rank else self.file
        with atomic_write(file) as temporary, temporary.open("w", newline="") as stream:
            csv.writer(stream).writerows(self._table(data))

    def _table(self, data: Any) -> Iterator[list[Any]]:
        """Yields the header and a row for each image."""
        captions = bool(self.rows) and isinstance(self.rows[0][1], str)
        yield ["image", "caption"] if captions else ["image", "class", "probability", *data.class_names]
        for index, prediction in self.rows:
            if isinstance(prediction, str):
                yield [data.image_files[index], prediction]
                continue
            best = max(range(len(prediction)), key=prediction.__getitem__)
            probabilities = [f"{probability:.6f}" for probability in prediction]
            yield [data.image_files[index], data.class_names[best], probabilities[best], *probabilities]
