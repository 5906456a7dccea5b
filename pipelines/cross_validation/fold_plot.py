"""The course's picture of a cross-validation: every fold a point, their means joined by a line, with error bars.

Source: https://cs231n.github.io/classification/#val; the error bars are one standard deviation, as in the first
assignment's notebook on k-nearest neighbors.
"""

from pathlib import Path
from typing import Any

from pipelines.cross_validation.plan import Plan
from pipelines.cross_validation.results import Result

_LOG_RATIO = 100  # values that span two decades are shown on a logarithmic axis


def draw(plan: Plan, results: list[Result], file: Path) -> None:
    """Saves the picture as PNG; settings without a single figure are left out.

    One numeric grid is the x axis; any other settings stand side by side in the order of the grid.
    """
    from matplotlib.figure import Figure  # takes 0.3 s to import

    order = list(plan.settings)
    shown = sorted((result for result in results if result.figures), key=lambda result: order.index(result.values))
    numbers = _numbers(plan)
    places = [float(next(iter(result.values.values()))) for result in shown] if numbers else list(range(len(shown)))
    width = 6.4 if numbers else max(4.0, 1.2 * len(shown) + 1.5)
    picture = Figure(figsize=(width, 4.2), dpi=120, layout="constrained")
    axes = picture.subplots()
    for place, result in zip(places, shown, strict=True):
        axes.scatter([place] * len(result.figures), result.figures, s=14, color="tab:gray", zorder=3)
    by_place = sorted(zip(places, shown, strict=True), key=lambda pair: pair[0])
    axes.errorbar(
        [place for place, _ in by_place],
        [result.mean for _, result in by_place],
        yerr=[result.deviation if len(result.figures) > 1 else 0.0 for _, result in by_place],
        capsize=4,
        marker="o",
        linestyle="-" if numbers else "none",
    )
    if numbers:
        axes.set_xlabel(next(iter(plan.grid)))
        if min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG_RATIO:
            axes.set_xscale("log")
    else:
        axes.set_xticks(places, [result.named.replace("  ", "\n") or plan.topic for result in shown], fontsize=8)
        axes.set_xlim(-0.5, len(shown) - 0.5)
    axes.set_ylabel(plan.metric)
    axes.set_title(f"{plan.topic}: {plan.folds} folds, their mean and standard deviation", fontsize=10)
    axes.grid(alpha=0.3)
    picture.savefig(file)


def _numbers(plan: Plan) -> list[Any]:
    """The values of a single grid if all are numbers, else none."""
    if len(plan.grid) != 1:
        return []
    (values,) = plan.grid.values()
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return values if plain else []
