"""Logger that writes `metrics.csv` in the run's folder, row by row, so that a kill loses nothing.

Lightning's CSVLogger deletes the file when a run is resumed, and keeps rows in memory between flushes.

`test` may write while `fit` does: each holds the file's lock while it writes, looks at the columns again if the file
has changed, and adds new ones behind them. What is in the file is kept byte for byte, readable or not; only the rows
that a resumed run repeats are taken out.
"""

import csv
import io
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from common.atomic_files import atomic_write
from common.file_locks import close_locked, open_locked
from pipelines.tracking.curves import cells_of, step_of

Row = dict[str, Any]


class MetricsCSV(Logger):
    """Writes a row per call and a column per metric; cells without a value are empty.

    Rows that can't be written, because the disk is full, stay in memory until they can.

    Args:
        folder: Folder of the run.
        resume_step: Step from which a `fit` goes on: its rows are held until `begin` and then replace the later ones
            of the file, from before a kill. None for other commands, which add their rows.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.file = folder / "metrics.csv"
        self._resume_step = resume_step
        self._holds = resume_step is not None
        self._rows: list[Row] = []  # not written yet
        self._columns: list[str] = []
        self._seen: tuple[int, ...] = ()  # identity, size and time of the file as this process left it
        self._warned = False

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
        self._rows.append({"step": step, **{" ".join(name.splitlines()): value for name, value in metrics.items()}})
        if not self._holds:
            self._write_rows()

    @rank_zero_only
    def begin(self) -> None:
        """Takes out the rows that a resumed run repeats and writes those held, after its first step."""
        if self._holds:
            self._holds = False
            if self.file.is_file():
                with self._locked() as descriptor:
                    self._take_back(descriptor)
            self._write_rows()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Tries once more to write what could not be written.

        Raises:
            OSError: If rows of a `fit` are lost.
        """
        if self._rows and not self._holds:
            self._write_rows(last=self._resume_step is not None and status == "success")

    def _write_rows(self, last: bool = False) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked() as descriptor:
                new = list(dict.fromkeys(name for row in self._rows for name in row if name not in self._columns))
                if new:
                    self._add_columns(descriptor, new)
                else:
                    self._append(descriptor)
            self._rows, self._warned = [], False
        except OSError as error:
            if last:
                raise OSError(error.errno, os.strerror(error.errno or 0), str(self.file)) from error
            if not self._warned:
                then = "are not kept" if self._resume_step is None else "wait in memory until it can"
                print(f"warning: {self.file}: {error.strerror}; the metrics {then}.", file=sys.stderr)
            self._warned = True

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Opens the file, made if it is missing, and holds its lock; no other process writes it meanwhile."""
        descriptor = open_locked(self.file, wait=True)
        assert descriptor is not None
        try:
            if _state(os.fstat(descriptor)) != self._seen:  # new to this process, or another one has written
                content = _read(descriptor)
                end = content.rfind(b"\n") + 1
                if end < len(content):
                    os.ftruncate(descriptor, end)  # a line cut by a kill, which the next one would continue
                self._columns = cells_of(content[: content.find(b"\n") + 1].decode(errors="surrogateescape"))
            yield descriptor
        finally:
            close_locked(descriptor)

    def _append(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        try:
            _write(descriptor, self._lines(), size)
        except OSError:
            os.ftruncate(descriptor, size)  # no half line
            raise
        self._seen = _state(os.fstat(descriptor))

    def _add_columns(self, descriptor: int, new: list[str]) -> None:
        content = _read(descriptor)
        columns = self._columns + new
        _, *lines = content.split(b"\n")[:-1] or [b""]
        cells = b"," * len(new) if self._columns else b""
        padded = [line.removesuffix(b"\r") + cells + b"\r\n" for line in lines]
        before, self._columns = self._columns, columns
        try:
            self._replace(_line(columns) + b"".join(padded) + self._lines())
        except OSError:
            self._columns = before
            raise

    def _take_back(self, descriptor: int) -> None:
        """Drops rows of steps that will be repeated; a test of the checkpoint itself belongs to what is kept."""
        assert self._resume_step is not None
        header, *lines = _read(descriptor).splitlines(keepends=True) or [b""]
        index = self._columns.index("step") if "step" in self._columns else 0
        tests = {i for i, name in enumerate(self._columns) if name.startswith("test/")}
        kept = []
        for line in lines:
            cells = cells_of(line.decode(errors="surrogateescape"))
            step = step_of(cells, index)
            is_test = any(cells[i] for i in tests if i < len(cells))
            if step is None or step < self._resume_step or (is_test and step == self._resume_step):
                kept.append(line)
        if len(kept) < len(lines):
            self._replace(header + b"".join(kept))

    def _lines(self) -> bytes:
        return b"".join(_line([row.get(name, "") for name in self._columns]) for row in self._rows)

    def _replace(self, content: bytes) -> None:
        with atomic_write(self.file) as temporary:
            temporary.write_bytes(content)
            self._seen = _state(temporary.stat())  # now: others may write as soon as it has its name


def _state(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _write(descriptor: int, content: bytes, at: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], at + written)


def _line(cells: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode(errors="surrogateescape")
