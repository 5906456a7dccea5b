"""The data that the scripts of the page draw, as JSON."""

import json
import math
from collections.abc import Sequence
from typing import Any

from pipelines.comparison.averages import is_seed, keys_to_group_by
from pipelines.comparison.differences import short_names, varying
from pipelines.comparison.group import Group
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.runs import Run
from pipelines.console.formatting import duration, setting
from pipelines.tracking.curves import Curve

_MAX_POINTS = 500  # of one curve
_MAX_POINTS_OF_METRIC = 40_000  # of all curves of one metric: 200 runs get 200 points each
_MIN_POINTS = 100  # of one curve, however many there are


def payload(comparison: Comparison, reload: float | None = None, group_by: str | None = None) -> dict[str, Any]:
    """Returns the data of the page as JSON-compatible values.

    Args:
        comparison: The comparison to show.
        reload: Seconds after which the page reads its file again; None for a page that is final.
        group_by: Settings to average over at first, as for `keys_to_group_by`; None to show each run.

    Raises:
        UserError: If no run has the settings to group by.
    """
    max_points = max(_MIN_POINTS, min(_MAX_POINTS, _MAX_POINTS_OF_METRIC // max(1, len(comparison.runs))))
    keys = [None] * len(comparison.groups) if group_by is None else keys_to_group_by(comparison, group_by)
    compared = varying(comparison.runs)  # for the difference of any two runs
    return {
        "reload": reload,
        "groups": [
            _group(group, max_points, compared, own) for group, own in zip(comparison.groups, keys, strict=True)
        ],
    }


def _group(group: Group, max_points: int, compared: Sequence[str], group_by: tuple[str, ...] | None) -> dict[str, Any]:
    names = group.short_names
    names |= {key: short for key, short in short_names(list(group_by or ())).items() if key not in names}
    ranking = group.ranking_metric
    return {
        "title": group.title,
        "metric": ranking.name if ranking else None,
        "maximize": ranking is None or ranking.goal == "maximize",
        "metrics": group.metrics,
        "tests": group.tests,
        "settings": [{"key": key, "name": name, "seed": is_seed(key)} for key, name in names.items()],
        "groupBy": list(group_by) if group_by is not None else None,
        "sweeps": {sweep.sweep_id: sweep.name for sweep in group.sweeps},
        "runs": [_run(group, run, max_points, list(names), compared) for run in group.runs],
    }


def _run(group: Group, run: Run, max_points: int, keys: Sequence[str], compared: Sequence[str]) -> dict[str, Any]:
    best, last, trial = group.best(run), group.last(run), group.trial(run)
    return {
        "id": run.run_id,
        "state": run.status.state,
        "best": best.value if best else None,
        "last": _rounded(last.value) if last else None,
        "took": duration(run.seconds),
        "sweep": trial[0].sweep_id if trial else None,
        "trial": trial[1] if trial else None,
        "settings": {key: _value(run.settings[key]) for key in keys if key in run.settings},
        "others": {key: _value(run.settings[key]) for key in compared if key in run.settings and key not in keys},
        "curves": {name: _curve(curve, max_points) for name, curve in run.curves.items()},
    }  # fmt: skip


def _curve(curve: Curve, max_points: int) -> dict[str, list[Any]]:
    points = curve.thinned(max_points)
    return {
        "step": [point.step for point in points],
        "epoch": [point.epoch for point in points],
        "value": [_rounded(point.value) for point in points],
    }


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _value(value: Any) -> float | str | None:
    """A setting as a number or as text."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    return setting(value)


def as_json(content: Any) -> str:
    """Returns JSON without the characters that could end the script element that contains it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
