"""Metrics as `metrics.csv` in the run's folder: readable without any tool, complete up to the last second of a kill.

Lightning's CSVLogger deletes the file of a run that is continued, and keeps rows in memory between flushes.
"""

import csv
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class MetricsCSV(Logger):
    """One row a call, one column a metric; empty where a row has no such metric.

    Args:
        folder: the run's folder.
        resume_step: when a run is continued from this step, rows of later steps (from before the kill) are dropped.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.file = folder / "metrics.csv"
        self.columns: list[str] = []
        self._resume_step = resume_step
        self._opened = False

    @property
    def name(self) -> str:
        return self.folder.parent.name

    @property
    def version(self) -> str:
        return self.folder.name

    @property
    def log_dir(self) -> str:
        return str(self.folder)

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the run's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row: dict[str, Any] = {"step": step, **metrics}
        if not self._opened:
            self._open()
        new = [name for name in row if name not in self.columns]
        if new:
            rows = self._read()
            self.columns += new
            self._rewrite(rows)
        with self.file.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def _open(self) -> None:
        """Takes over the rows of the run that is continued, without those after the checkpoint or cut by the kill."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._opened = True
        rows = self._read()
        if rows:
            self.columns = list(rows[0])
            kept = [row for row in rows if None not in row.values() and row.get("step", "").isdigit()]
            if self._resume_step is not None:
                kept = [row for row in kept if int(row["step"]) < self._resume_step]
            self._rewrite(kept)

    def _read(self) -> list[dict[str, str]]:
        if not self.file.is_file():
            return []
        with self.file.open(newline="") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(self.file)
