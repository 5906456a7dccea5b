"""The HTML of the page's header and of each group: heading, table, places of the plots, and pictures."""

from datetime import datetime
from functools import cache
from html import escape
from pathlib import Path

from pipelines.comparison.group import Group
from pipelines.comparison.page.pictures import is_made_of_pictures, pictures_html
from pipelines.comparison.page.table import table_html
from pipelines.comparison.ranking import Comparison
from pipelines.console.formatting import count, figure, setting

_MAX_SETTINGS = 6  # named beside the best run


def fill(template: str, **parts: str) -> str:
    """Replaces each §name§ of a template; template languages would interpret the braces of the scripts."""
    pieces = template.split("§")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def page_header(comparison: Comparison, reload: float | None) -> str:
    """Returns title and facts of the page; with the best run if there is a single group."""
    groups = comparison.groups
    runs = count(len(comparison.runs), "run")
    topics = {group.topic for group in groups}
    of = groups[0].title if len(groups) == 1 else count(len(topics), "topic")
    data = {group.data for group in groups}
    facts = [f"{runs} of {of}" + (f" on {count(len(data), 'data set')}" if len(groups) > 1 else "")]
    facts += [f"{sweep.method} search" for sweep in comparison.sweeps if sweep.method]
    time = datetime.now().astimezone()
    clock = f"{time.day} {time:%B %Y, %H:%M}" if reload is None else f"{time:%H:%M:%S}"
    watched = "" if reload is None else f' · <span class="watched">reloads itself every {reload:g} s</span>'
    return (
        f"<div><h1>{escape(comparison.title)}</h1>"
        f'<p class="facts">{" · ".join(map(escape, facts))}'
        f' · compared <time datetime="{time.isoformat(timespec="seconds")}">{clock}</time>{watched}</p>'
        f"{states_html(comparison)}</div>{_winner(groups[0]) if len(groups) == 1 else ''}"
    )


def states_html(runs: Comparison | Group) -> str:
    """Returns a list of the states with the number of runs in each."""
    chips = "".join(
        f'<li class="state {state}"><b>{number:,}</b> {state}</li>' for state, number in runs.states.items()
    )
    return f'<ul class="states">{chips}</ul>'


def group_html(group: Group, number: int, several: bool, folder: Path) -> str:
    """Returns a group's part of the page.

    Args:
        group: The group.
        number: Its number, from 1.
        several: Whether the page has other groups too, so that this one needs a heading.
        folder: Folder of the page, to which links are relative.
    """
    pictures = pictures_html(group)
    first = is_made_of_pictures(group)
    return fill(
        _template(),
        number=str(number),
        heading=_heading(group) if several else "",
        pictures_first=pictures if first else "",
        table=table_html(group, folder),
        unset=f'<p class="note unset">{escape(group.unset_note)}</p>' if group.unset else "",
        pictures="" if first else pictures,
    )


@cache
def _template() -> str:
    return (Path(__file__).parent / "group.html").read_text(encoding="utf-8")


def _heading(group: Group) -> str:
    of = f" <span>on {escape(group.data)}</span>" if group.data else ""
    methods = "".join(f" · {escape(sweep.method)} search" for sweep in group.sweeps if sweep.method)
    return (
        f'<header class="heading"><div><h2>{escape(group.topic)}{of}</h2>'
        f'<p class="facts">{count(len(group.runs), "run")}{methods} · <a href="#contents">contents</a></p>'
        f"{states_html(group)}</div>{_winner(group)}</header>"
    )


def _winner(group: Group) -> str:
    """The best run, its metric and the settings in which it differs."""
    ranking = group.ranking_metric
    run = group.runs[0]
    best = group.best(run)
    if ranking is None or best is None:
        return '<div class="winner"><p class="what">No run has logged a metric to rank by yet.</p></div>'
    names = group.short_names
    values = [(names[key], run.settings[key]) for key in group.settings if run.settings.get(key) is not None]
    settings = "".join(
        f"<span>{escape(name)} <b>{escape(setting(value))}</b></span>" for name, value in values[:_MAX_SETTINGS]
    )
    extreme = "highest" if ranking.goal == "maximize" else "lowest"
    return (
        f'<div class="winner"><p class="what">{extreme} {escape(ranking.name)}</p>'
        f'<p class="figure">{figure(best.value)}</p><p class="who">{escape(run.run_id)}</p>'
        f'<p class="settings">{settings}</p></div>'
    )
