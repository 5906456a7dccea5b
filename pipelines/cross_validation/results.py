"""Results of a cross-validation: the scores of each setting on the folds, their mean and standard deviation.

A fold's score is the metric after the last epoch. That of the best epoch would be selected on the very images on which
it is measured, and so be too optimistic.

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
        number: Index of the fold, from 0.
        run_id: Id of its run, which several settings may share.
        score: Metric after the last epoch; None if the run failed.
        state: State of the run as a trial of the sweep.
        reason: Why there is no score; None if there is one.
    """

    number: int
    run_id: str
    score: float | None
    state: str
    reason: str | None


@dataclass(frozen=True)
class Result:
    """One setting on all folds.

    Attributes:
        values: Values of the grid's settings by dotted name.
        folds: Folds in order, without those whose runs have not begun.
    """

    values: dict[str, Any]
    folds: list[Fold]

    @property
    def scores(self) -> list[float]:
        return [fold.score for fold in self.folds if fold.score is not None]

    @property
    def mean(self) -> float:
        return mean(self.scores) if self.scores else math.nan

    @property
    def deviation(self) -> float:
        """Sample standard deviation; nan for fewer than two scores."""
        return stdev(self.scores) if len(self.scores) > 1 else math.nan

    @property
    def label(self) -> str:
        """The setting as text, such as "optimizer.lr=0.01  model.reg=0.1"."""
        return "  ".join(f"{name}={setting(value)}" for name, value in self.values.items())


def collect_results(plan: Plan, search: Search) -> list[Result]:
    """Returns the results of all settings, best mean first; settings without a score on every fold are last."""
    trials = sorted(search.trials(), key=lambda trial: trial.values["data.fold"])
    results = []
    for values in plan.settings:
        own_trials = [trial for trial in trials if plan.searched(values).items() <= trial.values.items()]
        results.append(Result(values, [_fold(search, trial, plan.metric_of(values)) for trial in own_trials]))
    sign = -1 if plan.goal == "maximize" else 1
    return sorted(
        results,
        key=lambda result: (not is_complete(plan, result), sign * result.mean if result.scores else math.inf),
    )


def is_complete(plan: Plan, result: Result) -> bool:
    """Returns whether a setting has a score on every fold, so that it may be selected."""
    return len(result.scores) == plan.folds


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


def results_table(plan: Plan, results: list[Result]) -> str:
    """Formats the results: a line for each setting, and one for each fold without a score."""
    lines = [f"{plan.metric} after the last epoch, mean ± standard deviation (n − 1) over {plan.folds} folds"]
    for result in results:
        score = _mean_and_deviation(result) if result.scores else "–"
        if not is_complete(plan, result):
            score += f" over {len(result.scores)} of {plan.folds} folds only"
        lines.append(f"  {score}  {result.label}".rstrip())
        lines += [
            f"    fold {fold.number} {'failed' if fold.reason else fold.state}: {fold.reason or 'no score'}"
            for fold in result.folds
            if fold.score is None
        ]
    return "\n".join(lines)


def _mean_and_deviation(result: Result) -> str:
    average = figure(result.mean)
    return f"{average} ± {figure(result.deviation) if 'e' in average else format(result.deviation, '.4f')}"


def write_csv(plan: Plan, results: list[Result], file: Path) -> None:
    """Writes a row for each fold of each setting, best setting first: values, fold, score, run, state and reason."""
    with atomic_write(file) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*plan.grid, "fold", plan.metric, "run", "state", "reason"])
        for result in results:
            for fold in result.folds:
                score = "" if fold.score is None else fold.score
                row = [*result.values.values(), fold.number, score, fold.run_id, fold.state, fold.reason or ""]
                writer.writerow(row)
