"""The comparison as one HTML page that carries everything it needs: plots, pictures, style and script.

Its Content-Security-Policy forbids every request to a network. The table is plain HTML, so it is there even where
scripts are not; page.js sorts and filters it, plots.js and parallel.js draw.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from common.atomic_files import atomic_write
from pipelines.comparison.pictures import MOST_RUNS, Picture, newest_pictures
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.runs import Run
from pipelines.comparison.terminal_table import test_figure, where
from pipelines.console.formatting import count, duration, figure, setting
from pipelines.tracking.curves import Curve

_HERE = Path(__file__).parent
_SCRIPTS = ("page.js", "plots.js", "parallel.js")
_MOST_POINTS = 500  # of one curve
_ALL_POINTS = 40_000  # of one metric's curves together: 200 runs get 200 points each
_FEWEST_POINTS = 100


def write_page(comparison: Comparison, out: Path) -> int:
    """Writes the page, all at once.

    Args:
        comparison: what it shows.
        out: the file; its folder is made if it is not there.

    Returns:
        Its size in bytes.

    Raises:
        OSError: it can't be written.
    """
    page = render(comparison).encode()
    with atomic_write(out) as temporary:
        temporary.write_bytes(page)
    return len(page)


def render(comparison: Comparison) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    parts = {
        "title": escape(comparison.title),
        "style": (_HERE / "page.css").read_text(encoding="utf-8"),
        "header": _header(comparison),
        "table": _table(comparison),
        "pictures": _pictures(comparison),
        "data": _json(payload(comparison)),
        "plotly": get_plotlyjs(),
        "script": "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS),
    }
    page = (_HERE / "page.html").read_text(encoding="utf-8")
    pieces = page.split("§")  # §name§: no template language would leave the scripts' braces alone
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def payload(comparison: Comparison) -> dict[str, Any]:
    """What the scripts draw from."""
    most = max(_FEWEST_POINTS, min(_MOST_POINTS, _ALL_POINTS // max(1, len(comparison.runs))))
    names = comparison.short_names
    sweeps = {sweep.sweep_id: sweep.name for sweep in comparison.sweeps}
    runs = []
    for run in comparison.runs:
        best = comparison.best(run)
        trial = comparison.trial(run)
        runs.append(
            {
                "id": run.run_id,
                "state": run.status.state,
                "best": best.value if best else None,
                "sweep": trial[0].sweep_id if trial else None,
                "trial": trial[1] if trial else None,
                "settings": {key: _value(run.settings[key]) for key in comparison.settings if key in run.settings},
                "curves": {name: _curve(curve, most) for name, curve in run.curves.items()},
            }
        )
    headline = comparison.headline
    return {
        "metric": headline.metric if headline else None,
        "maximize": headline is None or headline.goal == "maximize",
        "metrics": list(dict.fromkeys(name for run in comparison.runs for name in run.curves)),
        "settings": [{"key": key, "name": names[key]} for key in comparison.settings],
        "sweeps": sweeps,
        "runs": runs,
    }


def _curve(curve: Curve, most: int) -> dict[str, list[Any]]:
    points = curve.thinned(most)
    return {
        "step": [point.step for point in points],
        "epoch": [point.epoch for point in points],
        "value": [_rounded(point.value) for point in points],
    }


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _value(value: Any) -> float | str | None:
    """A setting as a number or a text."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    return setting(value)


def _json(content: Any) -> str:
    """JSON that can't end the script element it stands in."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# ----------------------------------------------------------------------------------------------------------- header


def _header(comparison: Comparison) -> str:
    chips = "".join(
        f'<li class="state {state}"><b>{number:,}</b> {state}</li>' for state, number in comparison.states.items()
    )
    topics = sorted({run.topic for run in comparison.runs})
    facts = [count(len(comparison.runs), "run"), f"of {', '.join(topics)}"]
    facts += [f"{sweep.method} search" for sweep in comparison.sweeps if sweep.method]
    time = datetime.now().astimezone()
    return (
        f"<div><h1>{escape(comparison.title)}</h1>"
        f'<p class="facts">{escape(" ".join(facts[:2]))}'
        f"{''.join(f' · {escape(fact)}' for fact in facts[2:])}"
        f' · compared <time datetime="{time.isoformat(timespec="seconds")}">{time.day} {time:%B %Y, %H:%M}</time></p>'
        f'<ul class="states">{chips}</ul></div>{_winner(comparison)}'
    )


def _winner(comparison: Comparison) -> str:
    """The best run, its figure and what set it apart."""
    headline = comparison.headline
    run = comparison.runs[0]
    best = comparison.best(run)
    if headline is None or best is None:
        return '<div class="winner"><p class="what">No run has a figure to rank by yet.</p></div>'
    names = comparison.short_names
    values = [(names[key], run.settings[key]) for key in comparison.settings if run.settings.get(key) is not None]
    settings = "".join(f"<span>{escape(name)} <b>{escape(setting(value))}</b></span>" for name, value in values[:6])
    word = "highest" if headline.goal == "maximize" else "lowest"
    return (
        f'<div class="winner"><p class="what">{word} {escape(headline.metric)}</p>'
        f'<p class="figure">{figure(best.value)}</p><p class="who">{escape(run.run_id)}</p>'
        f'<p class="settings">{settings}</p></div>'
    )


# ------------------------------------------------------------------------------------------------------------ table


@dataclass(frozen=True)
class _Column:
    """One column of the table.

    Attributes:
        name: in its head, and in the filter.
        full: the whole name, such as a dotted key.
        kind: the cells' class.
        cells: one a run: its HTML, and the value to sort by, empty where there is none.
    """

    name: str
    full: str
    kind: str
    cells: list[tuple[str, str]]


def _columns(comparison: Comparison) -> Iterable[_Column]:
    runs, headline = comparison.runs, comparison.headline
    topics = len({run.topic for run in runs}) > 1
    yield _Column("run", "run", "id", [(_name(run, topics), run.run_id) for run in runs])
    yield _Column("state", "state", "how", [(_state(run), run.status.state) for run in runs])
    if headline:
        bests, lasts = [comparison.best(run) for run in runs], [comparison.last(run) for run in runs]
        best_figures = [best.value if best else None for best in bests]
        yield _figures(f"best {headline.metric}", f"best {headline.metric}", "figure best", best_figures)
        steps = [(where(best).replace("step ", ""), str(best.step) if best else "") for best in bests]
        yield _Column("at step", "the step and epoch of the best value", "figure", steps)
        yield _figures("last", f"last {headline.metric}", "figure", [last.value if last else None for last in lasts])
    for metric in comparison.tests:
        cells = [(escape(test_figure(run, metric)), _sortable(run, metric)) for run in runs]
        yield _Column(metric, metric, "figure", cells)
    for key, name in comparison.short_names.items():
        values = [run.settings.get(key) for run in runs]
        numbers = all(value is None or _is_number(value) for value in values)
        cells = [(escape(setting(value)), _exact(value)) for value in values]
        yield _Column(name, key, "figure" if numbers else "setting", cells)
    times = [(duration(run.seconds), "" if run.seconds is None else f"{run.seconds:.0f}") for run in runs]
    yield _Column("took", "from start to end, in seconds", "figure", times)


def _figures(name: str, full: str, kind: str, values: list[float | None]) -> _Column:
    cells = [(figure(value), "" if value is None or not math.isfinite(value) else repr(value)) for value in values]
    return _Column(name, full, kind, cells)


def _sortable(run: Run, metric: str) -> str:
    return repr(run.curves[metric].last.value) if metric in run.curves else ""


def _exact(value: Any) -> str:
    """A setting to sort and filter by: the number itself, not what is shown of it."""
    return "" if value is None else repr(value) if _is_number(value) else setting(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(run: Run, topics: bool) -> str:
    topic = f'<span class="topic">{escape(run.topic)}</span>' if topics else ""
    return f'{topic}<span title="{escape(run.status.command)}">{escape(run.run_id)}</span>'


def _state(run: Run) -> str:
    state = f'<span class="state {run.status.state}">{run.status.state}</span>'
    remark = escape(run.remark)
    return f'{state}<span class="remark" title="{remark}">{remark}</span>' if remark else state


def _table(comparison: Comparison) -> str:
    columns = list(_columns(comparison))
    heads = []
    for column in columns:
        words = escape(column.name).replace("/", "/<wbr>").replace("_", "_<wbr>")
        kind = column.kind.split()[0]
        ranked = column.kind == "figure best"
        order = "descending" if comparison.headline and comparison.headline.goal == "maximize" else "ascending"
        heads.append(
            f'<th scope="col" class="{kind}" data-name="{escape(column.full)}" data-short="{escape(column.name)}" '
            f'aria-sort="{order if ranked else "none"}"><button type="button" title="{escape(column.full)}">'
            f"{words}</button></th>"
        )
    rows = []
    for place, run in enumerate(comparison.runs):
        cells = "".join(
            f'<td class="{column.kind}" data-value="{escape(column.cells[place][1])}">{column.cells[place][0]}</td>'
            for column in columns
        )
        rows.append(
            f'<tr data-run="{place}"><td class="show"><label><input type="checkbox" checked '
            f'aria-label="show {escape(run.run_id)}"><i></i></label></td><td class="place">{place + 1}</td>{cells}</tr>'
        )
    return (
        '<thead><tr><th class="show"><label><input type="checkbox" checked aria-label="show all"></label></th>'
        f'<th class="place"><span class="hidden">rank</span></th>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>"
    )


# --------------------------------------------------------------------------------------------------------- pictures


def _pictures(comparison: Comparison) -> str:
    """A row a series, a column a run, best first; nothing if no run has pictures."""
    having = tuple(run for run in comparison.runs if run.pictures)
    if not having:
        return ""
    shown = having[:MOST_RUNS]
    series = newest_pictures(shown)
    of = f"the {len(shown)} best of {count(len(having), 'run')} with pictures" if len(shown) < len(having) else ""
    heads = "".join(
        f'<th scope="col"><span class="who">{escape(run.run_id)}</span>'
        f'<span class="value">{figure(best.value if (best := comparison.best(run)) else None)}</span></th>'
        for run in shown
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f"{''.join(f'<td>{_picture(pictures.get(run.run_id), name, run)}</td>' for run in shown)}</tr>"
        for name, pictures in series.items()
    )
    return (
        '<section id="pictures"><h2>Pictures</h2><p class="note">The newest of each series, best run first'
        f"{f'; {of} shown' if of else ''}. Click one to enlarge it.</p>"
        f'<div class="scroll"><table class="pictures"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _picture(picture: Picture | None, name: str, run: Run) -> str:
    if picture is None:
        return '<span class="none">none</span>'
    if picture.source is None:
        return '<span class="none">the file can’t be read</span>'
    text = escape(f"{name} of {run.run_id}" + (f" at step {picture.step:,}" if picture.step is not None else ""))
    return (
        f'<button type="button" class="picture" title="{text}"><img src="{picture.source}" alt="{text}" '
        f'width="{picture.width}" height="{picture.height}" loading="lazy" decoding="async"></button>'
    )
