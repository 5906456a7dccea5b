"""Reads the curves of a run from its metrics.csv, also while the run is writing it."""

import csv
import math
from collections import Counter
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
    """Reads every column except step and epoch; skips lines that are truncated or damaged.

    Columns are only ever added at the end, so that a shorter line lacks the last ones. A single line of its length is
    rather one that a kill has cut.

    Raises:
        OSError: If there is no such file, or it can't be read.
        ValueError: If it is not a metrics.csv.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    header, *lines = text.removeprefix("\ufeff").split("\n")
    if not header:
        raise UserError(f"{file.name} is empty")
    names = cells_of(header)
    if "step" not in names:
        raise UserError(f"{file.name} has no column step")
    rows = [cells_of(line) for line in lines[:-1]]  # without its end, the last number of a line may be truncated
    lengths = Counter(map(len, rows))
    columns: dict[str, tuple[int, list[Point]]] = {
        name: (index, []) for index, name in enumerate(names) if name not in ("step", "epoch", "")
    }
    step_at = names.index("step")
    epoch_at = names.index("epoch") if "epoch" in names else len(names)
    complete = len(names)
    for row in rows:
        size = len(row)
        if size != complete and (size > complete or lengths[size] == 1):
            continue
        step = step_of(row, step_at)
        if step is None:
            continue
        epoch = _number(row[epoch_at]) if epoch_at < size else None
        epoch = epoch if epoch is not None and math.isfinite(epoch) else None
        for index, points in columns.values():
            if index < size and (cell := row[index]) and (value := _number(cell)) is not None:
                points.append(Point(step, epoch, value))
    return {
        name: Curve(tuple(sorted(points, key=lambda point: point.step)))
        for name, (_, points) in columns.items()
        if points
    }


def cells_of(line: str) -> list[str]:
    """Splits a line of a metrics.csv; one that is damaged beyond that gives no cells."""
    line = line.rstrip("\r\n").removeprefix("\ufeff")
    if '"' not in line:
        return line.split(",") if line else []
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def step_of(cells: Sequence[str], index: int) -> int | None:
    """Returns the step of a line, whose cell has the given index; None if there is none."""
    number = _number(cells[index]) if index < len(cells) else None
    return int(number) if number is not None and math.isfinite(number) else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
