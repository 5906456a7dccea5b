"""Runs side by side: best first by the headline metric, with only the settings in which they differ."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from common.errors import UserError
from pipelines.comparison.find_runs import Found, Sweep
from pipelines.comparison.runs import Run, read_run
from pipelines.console.formatting import count, setting
from pipelines.run.status import State
from pipelines.tracking.curves import Goal, Point

_NO_CHOICE = {  # settings that differ without anyone having chosen them
    "trainer.default_root_dir", "trainer.logger", "checkpoint.filename", "ckpt_path", "config", "data.root",
}  # fmt: skip
_SMALLER_IS_BETTER = ("loss", "error", "perplexity", "fid", "seconds")


@dataclass(frozen=True)
class Headline:
    """The metric by which runs are ranked, and whether more of it is better."""

    metric: str
    goal: Goal


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown of some runs.

    Attributes:
        title: what is compared.
        runs: best first; those without the metric last.
        headline: None if no run has a figure.
        settings: the dotted keys in which the runs differ, the most telling first.
        tests: the test metrics that runs have, but for those of single classes such as "test/accuracy/3".
        sweeps: those whose trials are among the runs.
    """

    title: str
    runs: tuple[Run, ...]
    headline: Headline | None
    settings: tuple[str, ...]
    tests: tuple[str, ...]
    sweeps: tuple[Sweep, ...]

    def best(self, run: Run) -> Point | None:
        """Where a run's headline metric was best; None if it has no finite value."""
        curve = run.curves.get(self.headline.metric) if self.headline else None
        return curve.best(self.headline.goal) if curve and self.headline else None

    def last(self, run: Run) -> Point | None:
        """A run's newest value of the headline metric."""
        curve = run.curves.get(self.headline.metric) if self.headline else None
        return curve.last if curve else None

    def trial(self, run: Run) -> tuple[Sweep, int] | None:
        """Which trial of which sweep a run is."""
        for sweep in self.sweeps:
            number = sweep.number(run.run_id)
            if number is not None:
                return sweep, number
        return None

    @property
    def states(self) -> dict[State, int]:
        """How many runs are in each state, in the order of `State`."""
        counted = Counter(run.status.state for run in self.runs)
        return {state: counted[state] for state in get_args(State) if counted[state]}

    @property
    def short_names(self) -> dict[str, str]:
        """Of the differing settings: the shortest ending of the dotted key that tells it from the others."""
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
        """Such as "12 runs: 10 finished, 1 failed, 1 killed"."""
        states = ", ".join(f"{number:,} {state}" for state, number in self.states.items())
        return f"{count(len(self.runs), 'run')}: {states}"


def compare(found: Found, targets: Sequence[str], sort: str | None = None) -> Comparison:
    """Reads runs and puts them in order.

    Args:
        found: the runs' folders, and the sweeps.
        targets: as they were typed, for the title.
        sort: a metric to rank by, instead of the sweep's or the configurations'.

    Raises:
        ValueError: no run has the metric to sort by.
    """
    runs = [read_run(folder) for folder in found.folders]
    headline = _headline(runs, found.sweeps, sort)
    sweeps = found.sweeps
    title = ", ".join(targets) if len(targets) <= 3 else f"{targets[0]} and {len(targets) - 1} others"
    if sweeps and len(sweeps) == len(targets):
        title = ", ".join(sweep.name for sweep in sweeps)
    tests = dict.fromkeys(name for run in runs for name in run.curves if re.fullmatch(r"test/[^/]+", name))
    tests.pop(headline.metric if headline else "", None)
    shown = tuple(name for name in tests if not name.startswith("test/images"))  # how many there were
    comparison = Comparison(title, tuple(runs), headline, tuple(differing(runs)), shown, sweeps)
    order = sorted(runs, key=lambda run: _rank(comparison, run))
    return Comparison(title, tuple(order), headline, comparison.settings, shown, sweeps)


def _headline(runs: Sequence[Run], sweeps: Sequence[Sweep], sort: str | None) -> Headline | None:
    monitors = Counter(run.monitor for run in runs if run.monitor)
    searched = {Headline(sweep.metric, sweep.goal) for sweep in sweeps if sweep.metric}
    metrics = dict.fromkeys(name for run in runs for name in run.curves)
    goals: dict[str, Goal] = {metric: goal for (metric, goal), _ in reversed(monitors.most_common())}
    goals |= {headline.metric: headline.goal for headline in searched}
    if sort is not None:
        if sort not in metrics:
            near = get_close_matches(sort, metrics, 1)
            hint = (
                f"did you mean {near[0]}?" if near else f"give one of {', '.join(metrics) or 'none: no figures yet'}."
            )
            raise UserError(f"No run has the metric {sort!r}; {hint}")
        small = any(word in sort.lower() for word in _SMALLER_IS_BETTER)
        return Headline(sort, goals.get(sort, "minimize" if small else "maximize"))
    if len(searched) == 1 and len(sweeps) == 1:
        return searched.pop()
    ranked = [Headline(*monitor) for monitor, _ in monitors.most_common()]
    # The first that runs do have: a topic may monitor what no run came to log.
    return next((headline for headline in ranked if headline.metric in metrics), ranked[0] if ranked else None)


def _rank(comparison: Comparison, run: Run) -> tuple[bool, float, str]:
    """Best first, then by id; a run without a figure after all others."""
    best = comparison.best(run)
    if best is None or comparison.headline is None:
        return True, 0.0, run.run_id
    return False, -best.value if comparison.headline.goal == "maximize" else best.value, run.run_id


def differing(runs: Sequence[Run]) -> list[str]:
    """The keys whose values differ among the runs that have settings.

    Those in which most runs differ come first. A key that only some runs have counts as differing, unless it belongs
    to a class that is itself another: momentum tells nothing where SGD is compared with Adam.
    """
    configured = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in configured for key in settings)
    found: dict[str, int] = {}  # and how many runs have another value than most
    for key in keys:
        if key in _NO_CHOICE or key.rsplit(".", 1)[-1] in ("dirpath", "id", "run_id"):
            continue
        values = Counter(_comparable(settings[key]) for settings in configured if key in settings)
        missing = len(configured) - values.total()
        if len(values) > 1 or (missing and not any(key.startswith(f"{parent}.") for parent in found)):
            found[key] = values.total() - max(values.values())
    return sorted(found, key=lambda key: -found[key])


def _comparable(value: Any) -> str:
    """Equal for equal settings: 1 and 1.0, but not 1 and true."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "nan" if math.isnan(value) else repr(float(value)) if abs(value) < 2**53 else str(value)
    return f"{type(value).__name__} {setting(value)}"
