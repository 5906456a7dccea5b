"""Logger that writes `metrics.csv` in the run's folder, row by row, so that a kill loses nothing.

Lightning's CSVLogger deletes the file when a run is resumed, and keeps rows in memory between flushes.
"""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from common.atomic_files import atomic_write


class MetricsCSV(Logger):
    """Writes a row per call and a column per metric; cells without a value are empty.

    Args:
        folder: Folder of the run.
        resume_step: Step from which a run is resumed; later rows, from before a kill, are dropped.
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
        """Keeps the rows of a resumed run, except those after the checkpoint or truncated by a kill."""
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
        with atomic_write(self.file) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
