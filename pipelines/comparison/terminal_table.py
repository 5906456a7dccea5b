"""Prints the comparison as a table in the terminal."""

from collections.abc import Sequence
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.comparison.ranking import Comparison
from pipelines.comparison.runs import Run
from pipelines.console.formatting import count, duration, figure, setting
from pipelines.tracking.curves import Point

_COLORS = {"finished": "green", "running": "cyan", "failed": "red", "killed": "red", "stopped": "yellow"}
_MAX_ROWS = 40  # on a screen; a file or pipe gets all
_NARROW = 100
_UNLIMITED_WIDTH = 10_000  # for files and pipes, so that nothing is cut


def print_table(comparison: Comparison, file: IO[str] | None = None, width: int | None = None) -> None:
    """Prints the runs, best first, and below them why some of them failed.

    Each setting has a column if the screen is wide enough; otherwise one column has all settings, and steps are left
    out.

    Args:
        comparison: The comparison to print.
        file: Output; None for standard output. A terminal gets colors and a table that fits its width.
        width: Width of the screen; None for the terminal's.
    """
    console = Console(file=file, width=width, highlight=False)
    screen = console.is_terminal or width is not None
    if not screen:
        console = Console(file=file, width=_UNLIMITED_WIDTH, highlight=False)
    shown = comparison.runs[:_MAX_ROWS] if screen else comparison.runs
    table = _table(comparison, shown, setting_columns=True)
    if console.measure(table).minimum > console.width or not _fits(table, console):
        table = _table(comparison, shown, setting_columns=False, narrow=console.width < _NARROW)
    console.print(table)
    if len(shown) < len(comparison.runs):
        console.print(f"and {count(len(comparison.runs) - len(shown), 'more run')}, all on the page", style="dim")
    for line in _remarks(comparison.runs):
        console.print(line, soft_wrap=not screen)


def _fits(table: Table, console: Console) -> bool:
    wide = Console(width=_UNLIMITED_WIDTH, file=console.file)
    return wide.measure(table).maximum <= console.width


def _table(comparison: Comparison, runs: Sequence[Run], setting_columns: bool, narrow: bool = False) -> Table:
    """Makes the table.

    Args:
        comparison: The comparison, for the settings and metrics to show.
        runs: Runs to show, one a row.
        setting_columns: Whether each setting has a column, instead of one column for all.
        narrow: Whether last value and duration are left out, which leaves room for the settings.
    """
    with_topics = len({run.topic for run in comparison.runs}) > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False, collapse_padding=True)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    if with_topics:
        table.add_column("topic", overflow="fold")
    table.add_column("run", no_wrap=True, overflow="fold")
    table.add_column("state", no_wrap=True)
    ranking = comparison.ranking_metric
    if ranking:
        sign = "↑" if ranking.goal == "maximize" else "↓"
        table.add_column(f"best {sign}", justify="right", no_wrap=True)
        if setting_columns:
            table.add_column("at", justify="right", no_wrap=True)
        if not narrow:
            table.add_column("last", justify="right", no_wrap=True)
    for metric in comparison.tests:
        table.add_column(Text(metric.replace("test/", "test/\n") if not setting_columns else metric), justify="right")
    names = comparison.short_names
    if setting_columns:
        for key in comparison.settings:
            numbers = all(isinstance(run.settings.get(key), int | float | None) for run in comparison.runs)
            table.add_column(Text(names[key]), justify="right" if numbers else "left")
    elif comparison.settings:
        table.add_column("settings", min_width=10, overflow="fold")
    if not narrow:
        table.add_column("took", justify="right", no_wrap=setting_columns)
    top = next((run for run in runs if comparison.best(run)), None)
    for rank, run in enumerate(runs, 1):
        best, last = comparison.best(run), comparison.last(run)
        cells = [Text(str(rank)), *([Text(run.topic)] if with_topics else []), Text(run.run_id)]
        cells.append(Text(run.status.state, _COLORS.get(run.status.state, "dim")))
        if ranking:
            cells.append(Text(figure(best.value if best else None), "bold green" if run is top else ""))
            cells += [Text(step_and_epoch(best))] if setting_columns else []
            cells += [] if narrow else [Text(figure(last.value if last else None))]
        cells += [Text(test_figure(run, metric)) for metric in comparison.tests]
        values = {key: setting(run.settings.get(key)) for key in comparison.settings}
        if setting_columns:
            cells += [Text(value) for value in values.values()]
        elif values:
            cells.append(Text(", ".join(f"{names[key]} {value}" for key, value in values.items() if value != "–")))
        table.add_row(*cells, *([] if narrow else [Text(duration(run.seconds))]))
    return table


def step_and_epoch(point: Point | None) -> str:
    """Formats the step and epoch of a point, such as "step 240, epoch 5"."""
    if point is None:
        return "–"
    return f"step {point.step:,}" + ("" if point.epoch is None else f", epoch {point.epoch:g}")


def test_figure(run: Run, metric: str) -> str:
    """Formats the last value of a test metric."""
    curve = run.curves.get(metric)
    return figure(curve.last.value if curve else None)


def _remarks(runs: Sequence[Run]) -> list[Text]:
    """A line for each reason and problem, with the runs that have it."""
    by_remark: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run.remark:
            by_remark.setdefault((run.status.state, run.remark), []).append(run.run_id)
    lines = []
    for (state, remark), ids in by_remark.items():
        names = ", ".join(ids[:3]) + (f" and {count(len(ids) - 3, 'other')}" if len(ids) > 3 else "")
        lines.append(Text.assemble((f"{state:<9}", _COLORS.get(state, "dim")), f"{names}: {remark}"))
    return lines
