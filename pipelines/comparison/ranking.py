"""Ranks runs by a metric, and finds the settings in which they differ."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from common.errors import UserError
from pipelines.comparison.find_runs import FoundRuns, Sweep
from pipelines.comparison.runs import Run, read_run
from pipelines.console.formatting import count, setting
from pipelines.run.status import State
from pipelines.tracking.curves import Goal, Point
from pipelines.tracking.metric_goals import known_mode

_IGNORED = {  # settings that differ between runs without being hyperparameters
    "trainer.default_root_dir", "trainer.logger", "checkpoint.filename", "ckpt_path", "config", "data.root",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.profiler", "trainer.log_every_n_steps",
}  # fmt: skip

_CLASSES = ("model", "data")  # what a run is, named before how it is set


@dataclass(frozen=True)
class RankingMetric:
    """The metric by which runs are ranked, and whether it is maximized or minimized."""

    name: str
    goal: Goal


@dataclass(frozen=True)
class Comparison:
    """Ranked runs with what is shown of them.

    Attributes:
        title: Title, from the names of sweeps or the targets.
        runs: Runs, best first and those without the metric last.
        ranking_metric: Metric by which they are ranked; None if no run has a metric.
        settings: Dotted keys of the settings in which the runs differ: model and data, then those in which most do.
        tests: Test metrics of the runs, without those of single classes such as "test/accuracy/3".
        sweeps: Sweeps whose trials are among the runs.
    """

    title: str
    runs: tuple[Run, ...]
    ranking_metric: RankingMetric | None
    settings: tuple[str, ...]
    tests: tuple[str, ...]
    sweeps: tuple[Sweep, ...]

    def best(self, run: Run) -> Point | None:
        """Returns the point at which a run's ranking metric is best; None if it has no finite value."""
        curve = run.curves.get(self.ranking_metric.name) if self.ranking_metric else None
        return curve.best(self.ranking_metric.goal) if curve and self.ranking_metric else None

    def last(self, run: Run) -> Point | None:
        """Returns a run's last point of the ranking metric."""
        curve = run.curves.get(self.ranking_metric.name) if self.ranking_metric else None
        return curve.last if curve else None

    def trial(self, run: Run) -> tuple[Sweep, int] | None:
        """Returns the sweep and the number of a run's trial; None if it is not a trial of these sweeps."""
        for sweep in self.sweeps:
            number = sweep.number(run.run_id)
            if number is not None:
                return sweep, number
        return None

    @property
    def states(self) -> dict[State, int]:
        """Number of runs in each state that occurs, in the order of `State`."""
        counts = Counter(run.status.state for run in self.runs)
        return {state: counts[state] for state in get_args(State) if counts[state]}

    @property
    def short_names(self) -> dict[str, str]:
        """Short names of the differing settings: the shortest unique ending of each dotted key."""
        names: dict[str, str] = {}
        for key in self.settings:
            parts = key.split(".")
            endings = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
            names[key] = next((ending for ending in endings if not self._ambiguous(key, ending)), key)
        return names

    def _ambiguous(self, key: str, ending: str) -> bool:
        return any(other != key and f".{other}".endswith(f".{ending}") for other in self.settings)

    @property
    def summary(self) -> str:
        """The number of runs in each state, such as "12 runs: 10 finished, 1 failed, 1 killed"."""
        states = ", ".join(f"{number:,} {state}" for state, number in self.states.items())
        return f"{count(len(self.runs), 'run')}: {states}"


def compare(
    found: FoundRuns, targets: Sequence[str], sort: str | None = None, read: Callable[[Path], Run] = read_run
) -> Comparison:
    """Reads runs and ranks them.

    Args:
        found: Folders of the runs, and the sweeps.
        targets: Targets by which they were found, for the title.
        sort: Metric to rank by; None for the metric of the sweep, or else the one most runs monitor.
        read: Reads the run in a folder.

    Raises:
        ValueError: If no run has the metric to sort by.
    """
    runs = [read(folder) for folder in found.folders]
    ranking = _ranking_metric(runs, found.sweeps, sort)
    sweeps = found.sweeps
    title = ", ".join(targets) if len(targets) <= 3 else f"{targets[0]} and {len(targets) - 1} others"
    if sweeps and len(sweeps) == len(targets):
        title = ", ".join(sweep.name for sweep in sweeps)
    tests = dict.fromkeys(name for run in runs for name in run.curves if re.fullmatch(r"test/[^/]+", name))
    tests.pop(ranking.name if ranking else "", None)
    shown = tuple(name for name in tests if not name.startswith("test/images"))  # their number is not a result
    comparison = Comparison(title, tuple(runs), ranking, tuple(differing(runs)), shown, sweeps)
    order = sorted(runs, key=lambda run: _rank(comparison, run))
    return Comparison(title, tuple(order), ranking, comparison.settings, shown, sweeps)


def _ranking_metric(runs: Sequence[Run], sweeps: Sequence[Sweep], sort: str | None) -> RankingMetric | None:
    monitors = Counter(run.monitor for run in runs if run.monitor)
    searched = {RankingMetric(sweep.metric, sweep.goal) for sweep in sweeps if sweep.metric}
    metrics = dict.fromkeys(name for run in runs for name in run.curves)
    goals: dict[str, Goal] = {metric: goal for (metric, goal), _ in reversed(monitors.most_common())}
    goals |= {ranking.name: ranking.goal for ranking in searched}
    if sort is not None:
        if sort not in metrics:
            near = get_close_matches(sort, metrics, 1)
            known = f"give one of {', '.join(metrics)}." if metrics else "no run has logged a metric yet."
            hint = f"did you mean {near[0]}?" if near else known
            raise UserError(f"No run has the metric {sort!r}; {hint}")
        return RankingMetric(sort, goals.get(sort, "minimize" if known_mode(sort) == "min" else "maximize"))
    if len(searched) == 1 and len(sweeps) == 1:
        return searched.pop()
    ranked = [RankingMetric(*monitor) for monitor, _ in monitors.most_common()]
    # The first metric that a run has logged: runs may have ended before they logged the monitored one.
    return next((ranking for ranking in ranked if ranking.name in metrics), ranked[0] if ranked else None)


def _rank(comparison: Comparison, run: Run) -> tuple[bool, float, str]:
    """Sort key: best first, then by id; runs without the metric last."""
    best = comparison.best(run)
    if best is None or comparison.ranking_metric is None:
        return True, 0.0, run.run_id
    return False, -best.value if comparison.ranking_metric.goal == "maximize" else best.value, run.run_id


def differing(runs: Sequence[Run]) -> list[str]:
    """Returns the keys whose values differ among the runs that have settings, most frequent difference first.

    A key that only some runs have counts as differing, unless it belongs to a class that itself differs: where SGD is
    compared with Adam, momentum is not a difference of its own.
    """
    configured = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in configured for key in settings)
    differences: dict[str, int] = {}  # number of runs with another value than the most frequent one, by key
    for key in keys:
        if key in _IGNORED or key.rsplit(".", 1)[-1] in ("dirpath", "id", "run_id"):
            continue
        values = Counter(_comparable(settings[key]) for settings in configured if key in settings)
        missing = len(configured) - values.total()
        if len(values) > 1 or (missing and not any(key.startswith(f"{parent}.") for parent in differences)):
            differences[key] = values.total() - max(values.values())
    return sorted(differences, key=lambda key: (key not in _CLASSES, -differences[key]))


def _comparable(value: Any) -> str:
    """A text that is equal for equal settings: for 1 and 1.0, but not for 1 and true."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "nan" if math.isnan(value) else repr(float(value)) if abs(value) < 2**53 else str(value)
    return f"{type(value).__name__} {setting(value)}"
