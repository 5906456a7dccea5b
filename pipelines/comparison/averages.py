"""Averages over runs with equal settings, such as over the seeds of each learning rate."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from common.errors import UserError
from pipelines.comparison.differences import comparable, short_names
from pipelines.comparison.group import Group
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.runs import Run
from pipelines.console.formatting import figure

ALL_SETTINGS = "settings"  # as a name to group by: all settings that differ but the seeds


@dataclass(frozen=True)
class Average:
    """Runs that agree in the settings grouped by.

    Attributes:
        values: Value of each setting grouped by; None if it is not set.
        runs: The runs, best first.
        best: The best value of the ranking metric of each run that has one.
    """

    values: tuple[Any, ...]
    runs: tuple[Run, ...]
    best: tuple[float, ...]


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None] | None:
    """Returns mean and sample standard deviation (with n - 1) of the finite values.

    The deviation is None for a single value, the result None without any.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    return statistics.fmean(finite), statistics.stdev(finite) if len(finite) > 1 else None


def mean_figure(values: Sequence[float]) -> str:
    """Formats mean ± standard deviation, such as "0.9123 ± 0.0041"; the mean alone of a single value."""
    found = mean_and_std(values)
    if found is None:
        return "–"
    mean, std = found
    return figure(mean) if std is None else f"{figure(mean)} ± {figure(std)}"


def is_seed(key: str) -> bool:
    """Returns whether a setting is the seed of random numbers, such as `seed_everything` or `data.seed`."""
    return "seed" in key.rsplit(".", 1)[-1].split("_")


def averages(group: Group, keys: Sequence[str]) -> list[Average]:
    """Returns the runs of a group by their values of some settings, the best mean first."""
    by_values: dict[tuple[str, ...], list[Run]] = {}
    for run in group.runs:
        by_values.setdefault(tuple(comparable(run.settings.get(key)) for key in keys), []).append(run)
    found = []
    for runs in by_values.values():
        best = tuple(point.value for run in runs if (point := group.best(run)))
        found.append(Average(tuple(runs[0].settings.get(key) for key in keys), tuple(runs), best))
    sign = -1 if group.ranking_metric and group.ranking_metric.goal == "maximize" else 1

    def rank(average: Average) -> tuple[bool, float]:
        mean = mean_and_std(average.best)
        return (True, 0.0) if mean is None else (False, sign * mean[0])

    return sorted(found, key=rank)


def keys_to_group_by(comparison: Comparison, text: str) -> list[tuple[str, ...] | None]:
    """Finds the dotted keys of settings by name, for each group; None for a group that is not to be averaged.

    That is one in which a setting does not differ, unless it differs nowhere.

    Args:
        comparison: The comparison.
        text: Names or dotted keys, separated by commas; or "settings" for all that differ but the seeds.

    Raises:
        UserError: If no run has such a setting.
    """
    groups = comparison.groups
    if text == ALL_SETTINGS:
        return [tuple(key for key in group.settings if not is_seed(key)) for group in groups]
    names = [name.strip() for name in text.split(",") if name.strip()]
    for keys_of in (_differing, _any):
        found = [_keys(keys_of(group), names) for group in groups]
        if any(found):
            return found
    known = [name for group in groups for name in group.short_names.values()]
    near = get_close_matches(text, [*known, *(key for run in comparison.runs for key in run.settings)], 1)
    hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(dict.fromkeys([ALL_SETTINGS, *known]))}."
    raise UserError(f"--group-by is {text!r}, but no run has such a setting; {hint}")


def _differing(group: Group) -> list[str]:
    return [*group.settings, *group.unset]


def _any(group: Group) -> list[str]:
    return list(dict.fromkeys(key for run in group.runs for key in run.settings))


def _keys(keys: Sequence[str], names: Sequence[str]) -> tuple[str, ...] | None:
    """The keys with these names, short or dotted; None if one is missing or there are no names."""
    by_name = {short: key for key, short in short_names(keys).items()} | {key: key for key in keys}
    return tuple(by_name[name] for name in names) if names and all(name in by_name for name in names) else None
