"""Writes predictions as CSV: one image a row, its class and probability, then the probability of every class."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor


class PredictionsCSV(BasePredictionWriter):
    """Collects the probabilities (B, K) that `predict_step` returns and writes them when all are there.

    Args:
        file: the CSV file to write; each process of several writes its own share, `NAME.rank1.csv` and so on.
    """

    def __init__(self, file: Path) -> None:
        super().__init__("epoch")
        self.file = file
        self.written = 0

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        file = self.file.with_suffix(f".rank{trainer.global_rank}.csv") if trainer.global_rank else self.file
        probabilities: list[Tensor] = [row for batch in predictions for row in batch.cpu()]
        loader: Any = trainer.predict_dataloaders
        places = [int(i) for batch in loader._batches_from_start() for i in batch.indices]
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        with temporary.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["image", "class", "probability", *data.class_names])
            for place, row in zip(places, probabilities, strict=True):
                best = int(row.argmax())
                rounded = [f"{p:.6f}" for p in row.tolist()]
                writer.writerow([data.image_files[place], data.class_names[best], rounded[best], *rounded])
        temporary.replace(file)
        self.written = len(places)
