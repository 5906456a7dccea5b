"""The contents of a page with several groups: a card each, with its best value and the curve of its best run."""

import math
from collections.abc import Callable, Sequence
from html import escape

from pipelines.comparison.group import Group
from pipelines.console.formatting import count, figure

_WIDTH, _HEIGHT, _MARGIN = 116, 40, 4  # pixels of a curve
_MAX_POINTS = 60


def contents(groups: Sequence[Group]) -> str:
    """Returns a card for each group that links to it."""
    cards = "".join(_card(group, number) for number, group in enumerate(groups, 1))
    return f'<nav id="contents" aria-label="contents">{cards}</nav>'


def _card(group: Group, number: int) -> str:
    best = group.best(group.runs[0])
    ranking = group.ranking_metric
    metric = f"{escape(ranking.name)} {ranking.arrow}" if ranking else "no metric yet"
    unfinished = [f"{n:,} {state}" for state, n in group.states.items() if state != "finished"]
    facts = ", ".join([*([count(len(group.runs), "run")] if len(group.states) != len(unfinished) else []), *unfinished])
    return (
        f'<a class="card" href="#group-{number}"><span class="topic">{escape(group.topic)}</span>'
        f'<span class="data">{escape(group.data)}</span>'
        f'<span class="figure">{figure(best.value if best else None)}</span>{_curve(group)}'
        f'<span class="what">{metric}</span><span class="runs-count">{facts}</span></a>'
    )


def _curve(group: Group) -> str:
    """The best run's curve of the ranking metric, as a small picture without axes; a point if it has one value."""
    curve = group.runs[0].curves.get(group.ranking_metric.name) if group.ranking_metric else None
    points = [point for point in curve.thinned(_MAX_POINTS) if math.isfinite(point.value)] if curve else []
    if not points:
        return "<span></span>"
    steps, values = [point.step for point in points], [point.value for point in points]
    x = _scale(min(steps), max(steps), _MARGIN, _WIDTH - _MARGIN)
    y = _scale(min(values), max(values), _HEIGHT - _MARGIN, _MARGIN)
    places = [(x(step), y(value)) for step, value in zip(steps, values, strict=True)]
    line = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    best = group.best(group.runs[0])
    across, down = (x(best.step), y(best.value)) if best else places[-1]
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">'
        f'<polyline points="{line}"/><circle cx="{across:.1f}" cy="{down:.1f}" r="3"/></svg>'
    )


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    """Returns the linear function that takes [low, high] to [first, last]; the middle for everything if low = high."""
    return lambda value: first + (last - first) * ((value - low) / (high - low) if high > low else 0.5)
