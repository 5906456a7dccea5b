"""Reads the curves of a run from its metrics.csv, also while the run is writing it."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from common.errors import UserError

Goal = Literal["maximize", "minimize"]


class Point(NamedTuple):
    """A logged value with its step and epoch (None if the row has no epoch)."""

    step: int
    epoch: float | None
    value: float


@dataclass(frozen=True)
class Curve:
    """Values of one metric, ordered by step.

    Attributes:
        points: All logged values, including NaN and inf.
    """

    points: tuple[Point, ...]

    @property
    def last(self) -> Point:
        return self.points[-1]

    def best(self, goal: Goal) -> Point | None:
        """Returns the first of the best values; None if no value is finite."""
        sign = 1 if goal == "maximize" else -1
        finite = [point for point in self.points if math.isfinite(point.value)]
        return max(finite, key=lambda point: (sign * point.value, -point.step)) if finite else None

    def thinned(self, max_points: int) -> list[Point]:
        """Returns at most `max_points` (≥ 4) points: the first, the last, and minimum and maximum of equal bins."""
        if len(self.points) <= max_points:
            return list(self.points)
        first, *middle, last = self.points
        bins = (max_points - 2) // 2
        kept = [first]
        rest = iter(middle)
        for i in range(bins):
            size = (i + 1) * len(middle) // bins - i * len(middle) // bins
            points = list(islice(rest, size))
            by_value = [point for point in points if math.isfinite(point.value)] or points
            low, high = (choose(by_value, key=lambda point: point.value) for choose in (min, max))
            kept += sorted({low, high}, key=lambda point: point.step)
        return [*kept, last]


def read_curves(file: Path) -> dict[str, Curve]:
    """Reads every column except step and epoch; skips lines truncated by a kill.

    Raises:
        OSError: If there is no such file, or it can't be read.
        ValueError: If it is not a metrics.csv.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        del lines[-1]  # its last number may be truncated
    try:
        header, *rows = csv.reader(lines)
    except (ValueError, csv.Error):  # no header
        raise UserError(f"{file.name} is empty") from None
    if "step" not in header:
        raise UserError(f"{file.name} has no column step")
    points: dict[str, list[Point]] = {name: [] for name in header if name not in ("step", "epoch", "")}
    for row in rows:
        _read_row(header, row, points)
    return {name: Curve(tuple(sorted(found, key=lambda point: point.step))) for name, found in points.items() if found}


def _read_row(header: Sequence[str], row: Sequence[str], points: dict[str, list[Point]]) -> None:
    if len(row) != len(header):
        return
    cells = dict(zip(header, row, strict=True))
    step = _number(cells["step"])
    if step is None or not math.isfinite(step):
        return
    epoch = _number(cells.get("epoch", ""))
    epoch = epoch if epoch is not None and math.isfinite(epoch) else None
    for name, found in points.items():
        value = _number(cells[name]) if cells[name] else None
        if value is not None:
            found.append(Point(int(step), epoch, value))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
