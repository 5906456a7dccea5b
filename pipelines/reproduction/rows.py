"""The rows of results.yaml: each has commands, the figures that they gave, and how far a repetition may differ."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean
from typing import Any

from common.errors import UserError
from common.yaml_text import load_yaml

RESULTS = Path(__file__).parents[2] / "results.yaml"
_OPTIONAL: dict[str, Any] = {"data": None, "needs": [], "note": ""}


@dataclass(frozen=True)
class Row:
    """A row of results.yaml.

    Attributes:
        name: Name of the row on the command line.
        label: What the tables call it, in Markdown.
        data: Data set by its class, whose checksum is compared; None for one that is drawn.
        needs: Files that the commands need, relative to the working folder.
        run: Arguments of `python -m pipelines.train`, one list for each command; RUN is the folder of the last run.
        seeds: Seeds of the runs.
        figures: Values of each metric, one for each seed; the first metric is the one that is compared.
        tolerance: Largest difference of a repetition with the same seed.
        minutes: Time that one seed took: all its commands if that is less than four minutes, else `fit`.
        machine: Machine on which it took that, a key of `machines`.
        note: Remark that follows the figure in the tables, in Markdown.
    """

    name: str
    label: str
    data: str | None
    needs: list[str]
    run: list[list[str]]
    seeds: list[int]
    figures: dict[str, list[float]]
    tolerance: float
    minutes: float
    machine: str
    note: str

    @property
    def metric(self) -> str:
        """The metric that is compared."""
        return next(iter(self.figures))

    @property
    def mean(self) -> float:
        """Mean of the compared metric over the seeds."""
        return mean(self.figures[self.metric])

    def figure(self, seed: int) -> float:
        """Returns the recorded value of the compared metric for a seed; their mean for a seed without one."""
        return self.figures[self.metric][self.seeds.index(seed)] if seed in self.seeds else self.mean


@dataclass(frozen=True)
class Results:
    """The content of results.yaml.

    Attributes:
        rows: Rows by name, in the order of the file.
        machines: Hardware by name.
        data: Checksum of each data set's training images and classes.
    """

    rows: dict[str, Row]
    machines: dict[str, str]
    data: dict[str, str]


def read_results(file: Path = RESULTS) -> Results:
    """Reads results.yaml.

    Raises:
        UserError: If the file is missing or no YAML, or a row lacks a key, has an unknown one or contradicts itself.
    """
    if not file.is_file():
        raise UserError(f"There is no file {file}; give the results.yaml of the project.")
    content: Any = load_yaml(file.read_text(encoding="utf-8"), str(file))
    machines = {str(name): str(text) for name, text in content["machines"].items()}
    data = {str(name): str(checksum) for name, checksum in content["data"].items()}
    rows = {name: _row(name, values, f"The row {name} of {file}") for name, values in content["rows"].items()}
    for row in rows.values():
        if row.machine not in machines:
            raise UserError(f"The row {row.name} of {file} ran on {row.machine}, which is none of its machines.")
        if row.data is not None and row.data not in data:
            raise UserError(f"The row {row.name} of {file} has the data {row.data}, of which there is no checksum.")
    return Results(rows, machines, data)


def _row(name: str, values: Mapping[str, Any], subject: str) -> Row:
    keys = {field.name for field in fields(Row)} - {"name"}
    if wrong := sorted((keys - _OPTIONAL.keys() - values.keys()) | (values.keys() - keys)):
        raise UserError(f"{subject} lacks or may not have {', '.join(wrong)}; its keys are {', '.join(sorted(keys))}.")
    row = Row(name, **{**_OPTIONAL, **values, "run": [shlex.split(command) for command in values["run"]]})
    if any(len(column) != len(row.seeds) for column in row.figures.values()) or not row.figures:
        raise UserError(f"{subject} has {len(row.seeds)} seeds; give one or more figures, each as often.")
    return row
