"""Writes predictions as CSV: one image a row, with its class and the probability of every class, or its caption."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class PredictionsCSV(Callback):
    """Collects what `predict_step` returns, probabilities (B, K) or B captions, and writes it when all is there.

    The batches are those of a data module's `predict_dataloader`: images, and which of its `image_files` they are.

    Args:
        file: the CSV file to write; of several processes each writes its own images, the second to NAME.rank1.csv.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[tuple[int, list[float] | str]] = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        found = outputs if isinstance(outputs, list) else outputs.tolist()
        self.rows += zip(batch[1].tolist(), found, strict=True)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rank = trainer.global_rank
        file = self.file.with_suffix(f".rank{rank}{self.file.suffix}") if rank else self.file
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        with temporary.open("w", newline="") as stream:
            csv.writer(stream).writerows(self._table(data))
        temporary.replace(file)

    def _table(self, data: Any) -> Iterator[list[Any]]:
        """The header and a row for each image."""
        captions = bool(self.rows) and isinstance(self.rows[0][1], str)
        yield ["image", "caption"] if captions else ["image", "class", "probability", *data.class_names]
        for place, found in self.rows:
            if isinstance(found, str):
                yield [data.image_files[place], found]
                continue
            best = max(range(len(found)), key=found.__getitem__)
            shares = [f"{share:.6f}" for share in found]
            yield [data.image_files[place], data.class_names[best], shares[best], *shares]
