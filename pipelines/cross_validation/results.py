"""What came out of a cross-validation: each setting's figures on the folds, their mean and standard deviation.

A fold's figure is that of its run's last epoch. The best epoch's would be chosen by the very images it is measured on.

    mean = Σ x_i / n,    standard deviation = √(Σ (x_i − mean)² / (n − 1))    over the n folds
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from common.atomic_files import atomic_write
from pipelines.console.formatting import figure, setting
from pipelines.cross_validation.plan import Plan
from pipelines.search.search import Search, Trial
from pipelines.tracking.curves import read_curves


@dataclass(frozen=True)
class Fold:
    """One setting on one fold.

    Attributes:
        number: from 0.
        run_id: its run's name; other settings may share it.
        figure: the metric after the last epoch; None if the run failed.
        state: of its run, as a sweep calls it.
        reason: why there is no figure.
    """

    number: int
    run_id: str
    figure: float | None
    state: str
    reason: str | None


@dataclass(frozen=True)
class Result:
    """One setting on all folds.

    Attributes:
        values: the setting, by dotted name.
        folds: in order; fewer than were asked for where runs have not begun.
    """

    values: dict[str, Any]
    folds: list[Fold]

    @property
    def figures(self) -> list[float]:
        return [fold.figure for fold in self.folds if fold.figure is not None]

    @property
    def mean(self) -> float:
        return mean(self.figures) if self.figures else math.nan

    @property
    def deviation(self) -> float:
        """Sample standard deviation; nan for fewer than two figures."""
        return stdev(self.figures) if len(self.figures) > 1 else math.nan

    @property
    def named(self) -> str:
        """Such as "optimizer.lr=0.01  model.reg=0.1"."""
        return "  ".join(f"{name}={setting(value)}" for name, value in self.values.items())


def collect(plan: Plan, search: Search) -> list[Result]:
    """All settings, best mean first; those that lack a fold are last, whatever the others gave."""
    trials = sorted(search.trials(), key=lambda trial: trial.values["data.fold"])
    results = []
    for values in plan.settings:
        mine = [trial for trial in trials if plan.searched(values).items() <= trial.values.items()]
        results.append(Result(values, [_fold(search, trial, plan.metric_of(values)) for trial in mine]))
    sign = -1 if plan.goal == "maximize" else 1
    return sorted(
        results,
        key=lambda result: (not complete(plan, result), sign * result.mean if result.figures else math.inf),
    )


def complete(plan: Plan, result: Result) -> bool:
    """Whether there is a figure for every fold, so that the setting may be chosen."""
    return len(result.figures) == plan.folds


def _fold(search: Search, trial: Trial, metric: str) -> Fold:
    value, reason = None, trial.reason
    run = search.run_folder(trial)
    if trial.state == "finished" and run is not None:
        curves = read_curves(run / "metrics.csv")
        value = curves[metric].last.value if metric in curves else None
        if value is None:
            reason = f"logged no {metric}"
        elif not math.isfinite(value):
            value, reason = None, f"{metric} became {value}"
    return Fold(trial.values["data.fold"], trial.run_id, value, trial.state, reason)


def table(plan: Plan, results: list[Result]) -> str:
    """A line for each setting, and one for each fold that has no figure."""
    lines = [f"{plan.metric} after the last epoch, mean ± standard deviation (n − 1) over {plan.folds} folds"]
    for result in results:
        told = _mean_and_deviation(result) if result.figures else "–"
        if not complete(plan, result):
            told += f" over {len(result.figures)} of {plan.folds} folds only"
        lines.append(f"  {told}  {result.named}".rstrip())
        lines += [
            f"    fold {fold.number} {'failed' if fold.reason else fold.state}: {fold.reason or 'no figure'}"
            for fold in result.folds
            if fold.figure is None
        ]
    return "\n".join(lines)


def _mean_and_deviation(result: Result) -> str:
    told = figure(result.mean)
    return f"{told} ± {figure(result.deviation) if 'e' in told else format(result.deviation, '.4f')}"


def write_csv(plan: Plan, results: list[Result], file: Path) -> None:
    """One row a fold of a setting, best setting first: its values, fold, figure, run, state and reason."""
    with atomic_write(file) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*plan.grid, "fold", plan.metric, "run", "state", "reason"])
        for result in results:
            for fold in result.folds:
                told = ["" if fold.figure is None else fold.figure, fold.run_id, fold.state, fold.reason or ""]
                writer.writerow([*result.values.values(), fold.number, *told])
