"""Groups runs by topic and data set, and ranks each group by a metric of its own."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from common.errors import UserError
from pipelines.comparison.differences import differing, set_by_somebody
from pipelines.comparison.find_runs import FoundRuns, Sweep
from pipelines.comparison.group import Group, RankingMetric, states, summary
from pipelines.comparison.runs import Run, read_run
from pipelines.run.status import State
from pipelines.tracking.curves import Goal
from pipelines.tracking.metric_goals import known_mode


@dataclass(frozen=True)
class Comparison:
    """Runs in groups that can be ranked.

    Attributes:
        title: Title, from the names of sweeps or the targets.
        groups: Runs of one topic on one data set each; groups on the same data set are neighbors.
        sweeps: Sweeps whose trials are among the runs.
    """

    title: str
    groups: tuple[Group, ...]
    sweeps: tuple[Sweep, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, group after group."""
        return tuple(run for group in self.groups for run in group.runs)

    @property
    def states(self) -> dict[State, int]:
        return states(self.runs)

    @property
    def summary(self) -> str:
        return summary(self.runs)


def compare(
    found: FoundRuns, targets: Sequence[str], sort: str | None = None, read: Callable[[Path], Run] = read_run
) -> Comparison:
    """Reads, groups and ranks runs.

    Args:
        found: Folders of the runs, and the sweeps.
        targets: Targets by which they were found, for the title.
        sort: Metric to rank by wherever a group has it; None for the metric of the group's sweep, or else the one most
            of its runs monitor.
        read: Reads the run in a folder.

    Raises:
        ValueError: If no run has the metric to sort by.
    """
    runs = [read(folder) for folder in found.folders]
    metrics = dict.fromkeys(name for run in runs for name in run.curves)
    if sort is not None and sort not in metrics:
        near = get_close_matches(sort, metrics, 1)
        known = f"give one of {', '.join(metrics)}." if metrics else "no run has logged a metric yet."
        raise UserError(f"No run has the metric {sort!r}; {f'did you mean {near[0]}?' if near else known}")
    title = ", ".join(targets) if len(targets) <= 3 else f"{targets[0]} and {len(targets) - 1} others"
    if found.sweeps and len(found.sweeps) == len(targets):
        title = ", ".join(sweep.name for sweep in found.sweeps)
    groups = [_group(topic, data, runs, found.sweeps, sort) for (topic, data), runs in _by_topic_and_data(runs).items()]
    return Comparison(title, tuple(groups), found.sweeps)


def _by_topic_and_data(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Runs by topic and data set, in the order in which data sets and topics appear.

    A run whose configuration can't be read counts as one on the data set that most runs of its topic use.
    """
    used: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        used[run.topic].update([run.data] if run.data else [])
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        data = run.data or next((name for name, _ in used[run.topic].most_common(1)), "")
        groups.setdefault((run.topic, data), []).append(run)
    order = list(dict.fromkeys(data for _, data in groups))
    return dict(sorted(groups.items(), key=lambda group: order.index(group[0][1])))


def _group(topic: str, data: str, runs: list[Run], sweeps: Sequence[Sweep], sort: str | None) -> Group:
    own = tuple(sweep for sweep in sweeps if any(sweep.number(run.run_id) is not None for run in runs))
    ranking = _ranking_metric(runs, own, sort)
    tests = dict.fromkeys(name for run in runs for name in run.curves if re.fullmatch(r"test/[^/]+", name))
    tests.pop(ranking.name if ranking else "", None)
    shown = tuple(name for name in tests if not name.startswith("test/images"))  # their number is not a result
    differences = differing(runs)
    settings = tuple(set_by_somebody(differences, runs))
    unset = tuple(key for key in differences if key not in settings)
    group = Group(topic, data, tuple(runs), ranking, settings, unset, shown, own)
    return replace(group, runs=tuple(sorted(runs, key=lambda run: _rank(group, run))))


def _ranking_metric(runs: Sequence[Run], sweeps: Sequence[Sweep], sort: str | None) -> RankingMetric | None:
    monitors = Counter(run.monitor for run in runs if run.monitor)
    searched = {RankingMetric(sweep.metric, sweep.goal) for sweep in sweeps if sweep.metric}
    metrics = {name for run in runs for name in run.curves}
    goals: dict[str, Goal] = {metric: goal for (metric, goal), _ in reversed(monitors.most_common())}
    goals |= {ranking.name: ranking.goal for ranking in searched}
    if sort in metrics and sort is not None:
        return RankingMetric(sort, goals.get(sort, "minimize" if known_mode(sort) == "min" else "maximize"))
    if len(searched) == 1 and len(sweeps) == 1:
        return searched.pop()
    ranked = [RankingMetric(*monitor) for monitor, _ in monitors.most_common()]
    # The first metric that a run has logged: runs may have ended before they logged the monitored one.
    return next((ranking for ranking in ranked if ranking.name in metrics), ranked[0] if ranked else None)


def _rank(group: Group, run: Run) -> tuple[bool, float, str]:
    """Sort key: best first, then by id; runs without the metric last."""
    best = group.best(run)
    if best is None or group.ranking_metric is None:
        return True, 0.0, run.run_id
    return False, -best.value if group.ranking_metric.goal == "maximize" else best.value, run.run_id
