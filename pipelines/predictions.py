"""Writes predictions as CSV: one image a row, its class and probability, then the probability of every class."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class PredictionsCSV(Callback):
    """Collects the probabilities (B, K) that `predict_step` returns and writes them when all are there.

    The batches are those of `ImageDataModule.predict_dataloader`: images, and which of its `image_files` they are.

    Args:
        file: the CSV file to write; of several processes each writes its own images, the second to NAME.rank1.csv.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[tuple[int, list[float]]] = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        self.rows += zip(batch[1].tolist(), outputs.tolist(), strict=True)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rank = trainer.global_rank
        file = self.file.with_suffix(f".rank{rank}{self.file.suffix}") if rank else self.file
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        with temporary.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["image", "class", "probability", *data.class_names])
            for place, probabilities in self.rows:
                best = max(range(len(probabilities)), key=probabilities.__getitem__)
                shares = [f"{share:.6f}" for share in probabilities]
                writer.writerow([data.image_files[place], data.class_names[best], shares[best], *shares])
        temporary.replace(file)
