"""Plots a cross-validation as the course does: a point for each fold, and a line through the means with error bars.

Source: https://cs231n.github.io/classification/#val; the error bars are one standard deviation, as in the first
assignment's notebook on k-nearest neighbors.
"""

from pathlib import Path
from typing import Any

from pipelines.cross_validation.plan import Plan
from pipelines.cross_validation.results import Result

_LOG_RATIO = 100  # values that span two decades get a logarithmic axis


def plot_folds(plan: Plan, results: list[Result], file: Path) -> None:
    """Saves the plot as PNG, without the settings that have no score.

    If the grid is one setting with numeric values, these are the x axis; otherwise the settings are placed side by side
    in the order of the grid.

    Args:
        plan: The cross-validation.
        results: Its results, in any order.
        file: Path of the PNG file.
    """
    from matplotlib.figure import Figure  # takes 0.3 s to import

    order = list(plan.settings)
    shown = sorted((result for result in results if result.scores), key=lambda result: order.index(result.values))
    numbers = _numeric_values(plan)
    x = [float(next(iter(result.values.values()))) for result in shown] if numbers else list(range(len(shown)))
    width = 6.4 if numbers else max(4.0, 1.2 * len(shown) + 1.5)
    figure = Figure(figsize=(width, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for position, result in zip(x, shown, strict=True):
        axes.scatter([position] * len(result.scores), result.scores, s=14, color="tab:gray", zorder=3)
    by_x = sorted(zip(x, shown, strict=True), key=lambda pair: pair[0])
    axes.errorbar(
        [position for position, _ in by_x],
        [result.mean for _, result in by_x],
        yerr=[result.deviation if len(result.scores) > 1 else 0.0 for _, result in by_x],
        capsize=4,
        marker="o",
        linestyle="-" if numbers else "none",
    )
    # parse_math: a "$" in a name would begin a formula.
    if numbers:
        axes.set_xlabel(next(iter(plan.grid)), parse_math=False)
        if min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG_RATIO:
            axes.set_xscale("log")
    else:
        labels = [result.label.replace("  ", "\n") or plan.topic for result in shown]
        axes.set_xticks(x, labels, fontsize=8, parse_math=False)
        axes.set_xlim(-0.5, len(shown) - 0.5)
    axes.set_ylabel(plan.metric, parse_math=False)
    title = f"{plan.topic}: {plan.folds} folds, their mean and standard deviation"
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.grid(alpha=0.3)
    figure.savefig(file)


def _numeric_values(plan: Plan) -> list[Any]:
    """The values of a grid of one setting if all are numbers, else an empty list."""
    if len(plan.grid) != 1:
        return []
    (values,) = plan.grid.values()
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return values if numeric else []
