"""A group of the comparison: the runs of one topic on one data set, ranked by their own metric."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from pipelines.comparison.differences import short_names
from pipelines.comparison.find_runs import Sweep
from pipelines.comparison.runs import Run
from pipelines.console.formatting import count
from pipelines.run.status import State
from pipelines.tracking.curves import Goal, Point

_MAX_NAMED = 8  # settings in a sentence


@dataclass(frozen=True)
class RankingMetric:
    """The metric by which runs are ranked, and whether it is maximized or minimized."""

    name: str
    goal: Goal

    @property
    def arrow(self) -> str:
        """The direction of better values, "↑" or "↓"."""
        return "↑" if self.goal == "maximize" else "↓"


@dataclass(frozen=True)
class Group:
    """Ranked runs of one topic on one data set, with what is shown of them.

    Attributes:
        topic: Topic, such as "svm".
        data: Class of the data set, such as "CIFAR10"; empty if no run's configuration could be read.
        runs: Runs, best first and those without the metric last.
        ranking_metric: Metric by which they are ranked; None if no run has a metric.
        settings: Dotted keys of the settings in which the runs differ and that somebody set: the model's class, then
            those in which most runs differ.
        unset: Dotted keys of the settings in which the runs differ although nobody set them.
        tests: Test metrics of the runs, without those of single classes such as "test/accuracy/3".
        sweeps: Sweeps whose trials are among the runs.
    """

    topic: str
    data: str
    runs: tuple[Run, ...]
    ranking_metric: RankingMetric | None
    settings: tuple[str, ...]
    unset: tuple[str, ...]
    tests: tuple[str, ...]
    sweeps: tuple[Sweep, ...]

    @property
    def title(self) -> str:
        """Topic and data set, such as "svm on CIFAR10"."""
        return f"{self.topic} on {self.data}" if self.data else self.topic

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
    def short_names(self) -> dict[str, str]:
        """Short names of the differing settings: the shortest unique ending of each dotted key."""
        return short_names(self.settings)

    @property
    def unset_note(self) -> str:
        """A sentence about settings that differ although no command sets them; empty without such settings."""
        if not self.unset:
            return ""
        names = ", ".join(self.unset[:_MAX_NAMED])
        names += f" and {len(self.unset) - _MAX_NAMED} more" if len(self.unset) > _MAX_NAMED else ""
        return f"No command sets {names}, which {'differs' if len(self.unset) == 1 else 'differ'} all the same."

    @property
    def metrics(self) -> list[str]:
        """Metrics of all runs: the ranking metric, then the others in the order in which they were logged."""
        first = [self.ranking_metric.name] if self.ranking_metric else []
        logged = dict.fromkeys(name for run in self.runs for name in run.curves)
        return [name for name in dict.fromkeys([*first, *logged]) if name in logged]

    @property
    def states(self) -> dict[State, int]:
        return states(self.runs)

    @property
    def summary(self) -> str:
        return summary(self.runs)


def states(runs: Iterable[Run]) -> dict[State, int]:
    """Returns the number of runs in each state that occurs, in the order of `State`."""
    counts = Counter(run.status.state for run in runs)
    return {state: counts[state] for state in get_args(State) if counts[state]}


def summary(runs: tuple[Run, ...]) -> str:
    """Returns the number of runs in each state, such as "12 runs: 10 finished, 1 failed, 1 killed"."""
    return f"{count(len(runs), 'run')}: {', '.join(f'{number:,} {state}' for state, number in states(runs).items())}"
