"""Writes the comparison as one self-contained HTML page: table, plots, pictures, style and scripts.

Its Content-Security-Policy forbids all network requests. The table is plain HTML and so complete without scripts;
page.js sorts and filters it, plots.js and parallel.js draw the plots, and reload.js reads a page that is being watched
again.
"""

import json
import math
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from common.atomic_files import atomic_write
from pipelines.comparison.page_table import table_html
from pipelines.comparison.pictures import MAX_RUNS, Picture, newest_pictures
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.runs import Run
from pipelines.console.formatting import count, figure, setting
from pipelines.tracking.curves import Curve

_HERE = Path(__file__).parent
_SCRIPTS = ("page.js", "plots.js", "parallel.js", "reload.js")
_MAX_POINTS = 500  # of one curve
_MAX_POINTS_OF_METRIC = 40_000  # of all curves of one metric: 200 runs get 200 points each
_MIN_POINTS = 100  # of one curve, however many there are


def write_page(comparison: Comparison, out: Path, reload: float | None = None) -> int:
    """Writes the page as one file that appears complete.

    Args:
        comparison: The comparison to show.
        out: Path of the HTML file; its folder is created if it does not exist.
        reload: Seconds after which the page, open in a browser, reads its file again; None for a page that is final.

    Returns:
        Size in bytes.

    Raises:
        OSError: If the file can't be written.
    """
    page = render(comparison, reload).encode()
    with atomic_write(out) as temporary:
        temporary.write_bytes(page)
    return len(page)


def render(comparison: Comparison, reload: float | None = None) -> str:
    """Returns the HTML of the page; `reload` is that of `write_page`."""
    from plotly.offline import get_plotlyjs

    parts = {
        "title": escape(comparison.title),
        "style": (_HERE / "page.css").read_text(encoding="utf-8"),
        "header": _header(comparison, reload),
        "table": table_html(comparison),
        "pictures": _pictures(comparison),
        "data": _json(payload(comparison, reload)),
        "plotly": get_plotlyjs(),
        "script": "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS),
    }
    page = (_HERE / "page.html").read_text(encoding="utf-8")
    pieces = page.split("§")  # §name§: template languages would interpret the braces of the scripts
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def payload(comparison: Comparison, reload: float | None = None) -> dict[str, Any]:
    """Returns the data that the scripts draw, as JSON-compatible values."""
    max_points = max(_MIN_POINTS, min(_MAX_POINTS, _MAX_POINTS_OF_METRIC // max(1, len(comparison.runs))))
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
                "curves": {name: _curve(curve, max_points) for name, curve in run.curves.items()},
            }
        )
    ranking = comparison.ranking_metric
    return {
        "metric": ranking.name if ranking else None,
        "maximize": ranking is None or ranking.goal == "maximize",
        "metrics": list(dict.fromkeys(name for run in comparison.runs for name in run.curves)),
        "settings": [{"key": key, "name": names[key]} for key in comparison.settings],
        "sweeps": sweeps,
        "reload": reload,
        "runs": runs,
    }


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


def _json(content: Any) -> str:
    """JSON without the characters that could end the script element that contains it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# ----------------------------------------------------------------------------------------------------------- header


def _header(comparison: Comparison, reload: float | None) -> str:
    chips = "".join(
        f'<li class="state {state}"><b>{number:,}</b> {state}</li>' for state, number in comparison.states.items()
    )
    topics = sorted({run.topic for run in comparison.runs})
    facts = [count(len(comparison.runs), "run"), f"of {', '.join(topics)}"]
    facts += [f"{sweep.method} search" for sweep in comparison.sweeps if sweep.method]
    time = datetime.now().astimezone()
    clock = f"{time.day} {time:%B %Y, %H:%M}" if reload is None else f"{time:%H:%M:%S}"
    watched = "" if reload is None else f' · <span class="watched">reloads itself every {reload:g} s</span>'
    return (
        f"<div><h1>{escape(comparison.title)}</h1>"
        f'<p class="facts">{escape(" ".join(facts[:2]))}'
        f"{''.join(f' · {escape(fact)}' for fact in facts[2:])}"
        f' · compared <time datetime="{time.isoformat(timespec="seconds")}">{clock}</time>{watched}</p>'
        f'<ul class="states">{chips}</ul></div>{_winner(comparison)}'
    )


def _winner(comparison: Comparison) -> str:
    """The best run, its metric and the settings in which it differs."""
    ranking = comparison.ranking_metric
    run = comparison.runs[0]
    best = comparison.best(run)
    if ranking is None or best is None:
        return '<div class="winner"><p class="what">No run has logged a metric to rank by yet.</p></div>'
    names = comparison.short_names
    values = [(names[key], run.settings[key]) for key in comparison.settings if run.settings.get(key) is not None]
    settings = "".join(f"<span>{escape(name)} <b>{escape(setting(value))}</b></span>" for name, value in values[:6])
    extreme = "highest" if ranking.goal == "maximize" else "lowest"
    return (
        f'<div class="winner"><p class="what">{extreme} {escape(ranking.name)}</p>'
        f'<p class="figure">{figure(best.value)}</p><p class="who">{escape(run.run_id)}</p>'
        f'<p class="settings">{settings}</p></div>'
    )


# --------------------------------------------------------------------------------------------------------- pictures


def _pictures(comparison: Comparison) -> str:
    """A table of pictures with a row for each series and a column for each run, best first; empty without pictures."""
    with_pictures = tuple(run for run in comparison.runs if run.pictures)
    if not with_pictures:
        return ""
    shown = with_pictures[:MAX_RUNS]
    series = newest_pictures(shown)
    all_shown = len(shown) == len(with_pictures)
    of = "" if all_shown else f"the {len(shown)} best of {count(len(with_pictures), 'run')} with pictures"
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
        '<section id="pictures"><h2>Pictures</h2><p class="note">The newest picture of each series, best run first'
        f"{f'; {of} shown' if of else ''}. Click a picture to enlarge it.</p>"
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
