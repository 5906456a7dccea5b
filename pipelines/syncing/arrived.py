"""Which rows of a run's metrics W&B has already: after a kill, none is sent twice and none is left out.

A run that goes on from a checkpoint repeats the steps after it, whose rows W&B may have; and the rows that were logged
last before a kill may be missing there, since W&B's client keeps them in memory for seconds. metrics.csv has all rows
in the order in which they were logged, and the run's summary on W&B has the last value of each metric: the last row
whose values are those of the summary is the last that has arrived.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.tracking.curves import cells_of, step_of

STEP = "trainer/global_step"
"""Lightning's name for the step of a row on W&B, the x axis of all curves there."""


class Row(NamedTuple):
    """A row of metrics.csv: its step and the metrics that it has."""

    step: int
    metrics: dict[str, float]

    @property
    def is_test(self) -> bool:
        return any(name.startswith("test/") for name in self.metrics)


@dataclass
class Arrived:
    """The rows that W&B has.

    Args:
        step: Last step of which it has rows; -1 for none.
        count: Number of rows of that step that it has; all if None.
    """

    step: int = -1
    count: int | None = None
    _seen: int = field(default=0, init=False)

    def has(self, step: int, metrics: Mapping[str, Any]) -> bool:
        """Returns whether W&B has a row that is logged; called with each row of a run that goes on, in their order.

        Pictures of the last step, which metrics.csv lacks, are taken for missing if a row of that step is.
        """
        if step != self.step or self.count is None:
            return step <= self.step
        if not all(isinstance(value, int | float) for value in metrics.values()):
            return False
        self._seen += 1
        return self._seen <= self.count


def read_rows(file: Path) -> list[Row]:
    """Returns the complete rows of a metrics.csv in their order; none if there is no such file."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []
    names = cells_of(lines[0])
    if "step" not in names:
        return []
    return list(_rows(names, lines[1:-1]))


def _rows(names: list[str], lines: Sequence[str]) -> Iterator[Row]:
    index = names.index("step")
    for line in lines:
        cells = cells_of(line)
        step = step_of(cells, index)
        if step is None or len(cells) != len(names):
            continue  # cut by a kill
        metrics = {name: cell for i, (name, cell) in enumerate(zip(names, cells, strict=True)) if cell and i != index}
        try:
            yield Row(step, {name: float(cell) for name, cell in metrics.items()})
        except ValueError:
            continue


def split(rows: Sequence[Row], summary: Mapping[str, Any]) -> tuple[Arrived, list[Row]]:
    """Returns what has arrived, and the rows after it.

    Args:
        rows: Rows of metrics.csv.
        summary: Summary of the run on W&B: the last value of each metric, but the best of the monitored one.
    """
    last = summary.get(STEP)
    last = max(last.values()) if isinstance(last, dict) and last else last
    if not isinstance(last, int | float):
        return Arrived(), list(rows)
    for end in range(len(rows), 0, -1):
        row = rows[end - 1]
        if row.step == last and shows(summary, row.metrics):
            of_step = [not other.is_test and other.step == last for other in rows]
            count = sum(of_step[:end])
            return Arrived(int(last), None if count == sum(of_step) else count), list(rows[end:])
    # Of the last step W&B has pictures alone, or metrics.csv lacks it, since it is to be repeated.
    return Arrived(int(last)), [row for row in rows if row.step > last]


def shows(summary: Mapping[str, Any], metrics: Mapping[str, float]) -> bool:
    """Returns whether the metrics of a row are those of a summary.

    Left out are metrics with a summary of their own, which are dictionaries and the monitored metric, `best/metric`, of
    which the summary has the best value; and speeds, because a step that is repeated has another one.
    """
    own = summary.get("best/metric")
    compared = {name: value for name, value in metrics.items() if name != own and not name.endswith("_per_s")}
    return all(isinstance(summary.get(name), dict) or _equal(summary.get(name), compared[name]) for name in compared)


def _equal(known: Any, value: float) -> bool:
    if isinstance(known, str):  # JSON has no NaN and inf
        known = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(known)
    if not isinstance(known, int | float):
        return False
    return float(known) == value or (math.isnan(known) and math.isnan(value))
