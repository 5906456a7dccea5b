"""Prints the comparison in the terminal: a heading and a table for each group."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.comparison.group import Group
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.runs import Run
from pipelines.comparison.terminal_averages import averages_table
from pipelines.console.formatting import count, duration, figure, setting
from pipelines.tracking.curves import Point

_COLORS = {"finished": "green", "running": "cyan", "failed": "red", "killed": "red", "stopped": "yellow"}
_MAX_ROWS = 40  # of a group on a screen; a file or pipe gets all
_UNLIMITED_WIDTH = 10_000  # for files and pipes without COLUMNS, so that nothing is cut


@dataclass(frozen=True)
class _Layout:
    """What a table leaves out, for lack of width.

    Attributes:
        setting_columns: Whether each setting has a column, instead of one column for all.
        left_out: Columns that are left out.
    """

    setting_columns: bool
    left_out: frozenset[str] = frozenset()


_LAYOUTS = (  # the first that fits on one line a run is used, else the last but one, which has lines of settings
    _Layout(True),
    _Layout(True, frozenset({"at"})),
    _Layout(False, frozenset({"at"})),
    _Layout(False, frozenset({"at", "last", "took"})),
    _Layout(False, frozenset({"at", "last", "took", "state", "rank"})),  # only where words would break otherwise
)


def print_table(
    comparison: Comparison,
    file: IO[str] | None = None,
    width: int | None = None,
    group_by: Sequence[tuple[str, ...] | None] | None = None,
) -> None:
    """Prints the runs of each group, best first, and below them why some of them failed.

    Each setting has a column if there is room for it; otherwise one column has all settings, and others are left out.

    Args:
        comparison: The comparison to print.
        file: Output; None for standard output. A terminal gets colors and tables that fit its width; a file or pipe
            gets all rows, and a width only if the environment variable COLUMNS has one.
        width: Width of the screen; None for the terminal's.
        group_by: Settings over whose equal values each group is averaged instead, as `keys_to_group_by` returns them.
    """
    console = Console(file=file, width=width, highlight=False)
    screen = console.is_terminal or width is not None
    if not screen and not os.environ.get("COLUMNS", "").isdigit():
        console = Console(file=file, width=_UNLIMITED_WIDTH, highlight=False)
    wraps = console.width < _UNLIMITED_WIDTH
    for number, group in enumerate(comparison.groups):
        keys = group_by[number] if group_by else None
        if len(comparison.groups) > 1:
            console.print(*[""] * min(number, 1), _heading(group), sep="\n", soft_wrap=not wraps)
        if keys is not None:
            console.print(averages_table(group, keys))
            continue
        shown = group.runs[:_MAX_ROWS] if screen else group.runs
        console.print(_fitting_table(group, shown, console))
        if len(shown) < len(group.runs):
            console.print(f"and {count(len(group.runs) - len(shown), 'more run')}, all on the page", style="dim")
        if group.unset:
            console.print(Text(group.unset_note, "dim"), soft_wrap=not wraps)
        for line in _remarks(group.runs):
            console.print(line, soft_wrap=not wraps)


def _heading(group: Group) -> Text:
    ranking = group.ranking_metric
    ranked = f"ranked by {ranking.name}" if ranking else "no metric to rank by"
    return Text.assemble((group.title, "bold"), f"  {group.summary}; {ranked}")


def _fitting_table(group: Group, runs: Sequence[Run], console: Console) -> Table:
    """The table in the first layout that fits on one line a run, or else in one that breaks no word."""
    wide = Console(width=_UNLIMITED_WIDTH, file=console.file)
    tables = [_table(group, runs, layout) for layout in _LAYOUTS]
    one_line = (table for table in tables if wide.measure(table).maximum <= console.width)
    whole_words = (table for table in tables[-2:] if wide.measure(table).minimum <= console.width)
    return next(one_line, None) or next(whole_words, tables[-1])


def _table(group: Group, runs: Sequence[Run], layout: _Layout) -> Table:
    columns: dict[str, tuple[dict[str, Any], list[Text]]] = {}

    def add(name: str, cells: list[Text], key: str = "", **options: Any) -> None:
        if (key or name) not in layout.left_out:
            columns[key or name] = {"header": Text(name), **options}, cells

    ranking = group.ranking_metric
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    add("", [Text(str(rank)) for rank in range(1, len(runs) + 1)], "rank", style="dim", **right)
    add("run", [Text(run.run_id) for run in runs], no_wrap=True, overflow="fold")
    states = [Text(run.status.state, _COLORS.get(run.status.state, "dim")) for run in runs]
    add("state", states, no_wrap=True)
    if ranking:
        top = next((run for run in runs if group.best(run)), None)
        best = [group.best(run) for run in runs]
        values = [figure(point.value if point else None) for point in best]
        green = ["bold green" if run is top else "" for run in runs]
        cells = [Text(value, style) for value, style in zip(values, green, strict=True)]
        add(f"best {ranking.arrow}", cells, "best", **right)
        add("at", [Text(step_and_epoch(point)) for point in best], **right)
        last = [group.last(run) for run in runs]
        add("last", [Text(figure(point.value if point else None)) for point in last], **right)
    for metric in group.tests:
        name = metric if layout.setting_columns else metric.replace("test/", "test/\n")
        add(name, [Text(test_figure(run, metric)) for run in runs], metric, justify="right")
    names = group.short_names
    if layout.setting_columns:
        for key, name in names.items():
            numbers = all(isinstance(run.settings.get(key), int | float | None) for run in group.runs)
            cells = [Text(setting(run.settings.get(key))) for run in runs]
            add(name, cells, f"setting {key}", justify="right" if numbers else "left")
    elif names:
        add("settings", [_settings(group, run) for run in runs], "settings", overflow="fold")
    add("took", [Text(duration(run.seconds)) for run in runs], **right)

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False, collapse_padding=True)
    for options, _ in columns.values():
        table.add_column(**options)
    for row in zip(*(cells for _, cells in columns.values()), strict=True):
        table.add_row(*row)
    return table


def _settings(group: Group, run: Run) -> Text:
    """All settings of a run that differ, in one text that may break between them."""
    values = {name: setting(run.settings.get(key)) for key, name in group.short_names.items()}
    return Text(" ".join(f"{name}={value}" for name, value in values.items() if value != "–"))


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
