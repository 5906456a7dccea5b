"""The table of averages in the terminal: mean ± standard deviation over runs with equal settings."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from pipelines.comparison.averages import averages, mean_figure
from pipelines.comparison.differences import short_names
from pipelines.comparison.group import Group
from pipelines.console.formatting import figure, setting


def averages_table(group: Group, keys: Sequence[str]) -> Table:
    """Returns a table with a row for each combination of the settings' values, the best mean first."""
    names = short_names(list(dict.fromkeys([*group.settings, *keys])))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False, collapse_padding=True)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    for key in keys:
        numbers = all(isinstance(run.settings.get(key), int | float | None) for run in group.runs)
        table.add_column(Text(names[key]), justify="right" if numbers else "left")
    table.add_column("runs", justify="right", no_wrap=True)
    ranking = group.ranking_metric
    if ranking:
        table.add_column(Text(f"{ranking.name} {ranking.arrow}\nmean ± std"), justify="right", no_wrap=True)
        table.add_column("lowest", justify="right", no_wrap=True)
        table.add_column("highest", justify="right", no_wrap=True)
    for metric in group.tests:
        table.add_column(Text(f"{metric}\nmean ± std"), justify="right", no_wrap=True)
    for rank, average in enumerate(averages(group, keys), 1):
        cells = [str(rank), *(setting(value) for value in average.values), str(len(average.runs))]
        if ranking:
            ends = (min(average.best), max(average.best)) if average.best else (None, None)
            cells += [mean_figure(average.best), *map(figure, ends)]
        for metric in group.tests:
            cells.append(mean_figure([run.curves[metric].last.value for run in average.runs if metric in run.curves]))
        table.add_row(
            *(Text(cell, "bold green" if rank == 1 and cell == mean_figure(average.best) else "") for cell in cells)
        )
    return table
