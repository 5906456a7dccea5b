"""The table of a group: a row for each run, best first, in plain HTML that needs no script.

table.js and filter.js sort and filter the rows by the `data-value` of their cells.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.comparison.group import Group
from pipelines.comparison.runs import Run
from pipelines.comparison.terminal_table import step_and_epoch, test_figure
from pipelines.console.formatting import duration, figure, setting


@dataclass(frozen=True)
class _Column:
    """One column of the table.

    Attributes:
        name: Name in the head and in the filter.
        full_name: Full name, such as a dotted key.
        css_class: CSS classes of the cells.
        cells: HTML and value to sort by of each run's cell; the value is empty if there is none.
    """

    name: str
    full_name: str
    css_class: str
    cells: list[tuple[str, str]]


def _columns(group: Group, folder: Path) -> Iterable[_Column]:
    runs, ranking = group.runs, group.ranking_metric
    yield _Column("run", "run", "id", [(_run_cell(run, folder), run.run_id) for run in runs])
    top = runs[0] if group.best(runs[0]) else None
    yield _Column("state", "state", "how", [(_state_cell(run, run is top), run.status.state) for run in runs])
    if ranking:
        bests, lasts = [group.best(run) for run in runs], [group.last(run) for run in runs]
        best_values = [best.value if best else None for best in bests]
        yield _metric_column(f"best {ranking.name}", f"best {ranking.name}", "figure best", best_values)
        steps = [(step_and_epoch(best).replace("step ", ""), str(best.step) if best else "") for best in bests]
        yield _Column("at step", "the step and epoch of the best value", "figure", steps)
        last_values = [last.value if last else None for last in lasts]
        yield _metric_column("last", f"last {ranking.name}", "figure", last_values)
    for metric in group.tests:
        cells = [(escape(test_figure(run, metric)), _last_value(run, metric)) for run in runs]
        yield _Column(metric, metric, "figure", cells)
    for key, name in group.short_names.items():
        values = [run.settings.get(key) for run in runs]
        numbers = all(value is None or _is_number(value) for value in values)
        cells = [(escape(setting(value)), _sort_value(value)) for value in values]
        yield _Column(name, key, "figure" if numbers else "setting", cells)
    times = [(duration(run.seconds), "" if run.seconds is None else f"{run.seconds:.0f}") for run in runs]
    yield _Column("took", "time from start to end, in seconds", "figure", times)


def _metric_column(name: str, full_name: str, css_class: str, values: list[float | None]) -> _Column:
    cells = [(figure(value), "" if value is None or not math.isfinite(value) else repr(value)) for value in values]
    return _Column(name, full_name, css_class, cells)


def _last_value(run: Run, metric: str) -> str:
    return repr(run.curves[metric].last.value) if metric in run.curves else ""


def _sort_value(value: Any) -> str:
    """A setting to sort and filter by, with all digits of a number."""
    return "" if value is None else repr(value) if _is_number(value) else setting(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _run_cell(run: Run, folder: Path) -> str:
    """The run's id, and a link to its folder that works wherever both lie, as long as they move together."""
    address = quote(Path(os.path.relpath(run.folder.resolve(), folder.resolve())).as_posix())
    link = (
        f'<a class="folder" href="{address}/" title="open its folder" aria-label="folder of {escape(run.run_id)}"></a>'
    )
    return f'<span title="{escape(run.status.command)}">{escape(run.run_id)}</span>{link}'


def _state_cell(run: Run, is_top: bool) -> str:
    state = f'<span class="state {run.status.state}">{run.status.state}</span>'
    state += ' <span class="state top">best</span>' if is_top else ""
    remark = escape(run.remark)
    return f'{state}<span class="remark" title="{remark}">{remark}</span>' if remark else state


def table_html(group: Group, folder: Path) -> str:
    """Returns the content of a group's table element; links are relative to a folder."""
    columns = list(_columns(group, folder))
    heads = []
    for column in columns:
        words = escape(column.name).replace("/", "/<wbr>")  # a header breaks after a slash, never within a word
        css_class = column.css_class.split()[0]
        is_ranking = column.css_class == "figure best"
        ranking = group.ranking_metric
        order = "descending" if ranking and ranking.goal == "maximize" else "ascending"
        heads.append(
            f'<th scope="col" class="{css_class}" data-name="{escape(column.full_name)}" '
            f'data-short="{escape(column.name)}" aria-sort="{order if is_ranking else "none"}"><button type="button" '
            f'title="{escape(column.full_name)}">{words}</button></th>'
        )
    rows = []
    for index, run in enumerate(group.runs):
        cells = ""
        for column in columns:
            content, value = column.cells[index]
            cells += f'<td class="{column.css_class}" data-value="{escape(value)}">{content}</td>'
        rows.append(
            f'<tr data-run="{index}"><td class="show"><label><input type="checkbox" checked '
            f'aria-label="show {escape(run.run_id)}"><i></i></label></td><td class="rank">{index + 1}</td>{cells}</tr>'
        )
    return (
        '<thead><tr><th class="show"><label><input type="checkbox" checked aria-label="show all"></label></th>'
        f'<th class="rank"><span class="hidden">rank</span></th>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>"
    )
