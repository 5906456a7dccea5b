"""The pictures of a group's best runs: beside one another, as many as a line holds, the further runs folded away."""

from collections.abc import Mapping
from html import escape

from pipelines.comparison.group import Group
from pipelines.comparison.page.embedding import MAX_RUNS, Picture, newest_pictures, pictures_over_steps
from pipelines.comparison.runs import Run
from pipelines.console.formatting import count, figure

_FIRST = ("samples", "captions", "class_visualization", "fooling")  # series that show what a model makes
_IN_A_LINE = 4
_WIDE = 2.6  # width over height from which on a picture takes the room of two


def is_made_of_pictures(group: Group) -> bool:
    """Returns whether what a topic is judged by is seen in its pictures: samples, captions, or images of classes."""
    return any(_kind(name) in _FIRST for run in group.runs[:MAX_RUNS] for name in run.pictures)


def _kind(series: str) -> str:
    return series.split("/")[0]


def pictures_html(group: Group) -> str:
    """Returns the section of the pictures; empty without pictures.

    With one run, the series stand beside one another, and a series that shows what the model makes has a line of its
    own from the first step to the last. With several, each series has a line with the pictures of the best runs.
    """
    with_pictures = tuple(run for run in group.runs if run.pictures)
    if not with_pictures:
        return ""
    shown = with_pictures[:MAX_RUNS]
    found = newest_pictures(shown)
    series = dict(sorted(found.items(), key=lambda entry: _kind(entry[0]) not in _FIRST))
    order = ", best run first" if len(shown) > 1 else ""
    of = f"; the {len(shown)} best of {count(len(with_pictures), 'run')} with pictures"
    of = "" if len(shown) == len(with_pictures) else f"{of} shown"
    if len(shown) == 1:
        content = _of_one_run(shown[0], series)
    else:
        content = ""
        for name, pictures in series.items():
            wide = _is_wide(pictures)
            with_it = [run for run in shown if run.run_id in pictures]
            figures = [_figure(pictures[run.run_id], name, run, _who(group, run), wide) for run in with_it]
            content += f"<h4>{escape(name)}</h4>{_lines(figures, _IN_A_LINE // 2 if wide else _IN_A_LINE)}"
    return (
        '<section class="pictures"><div class="bar"><h3>Pictures</h3><p class="note">The newest of each series'
        f"{order}{of}. Click a picture to enlarge it.</p></div>{content}</section>"
    )


def _of_one_run(run: Run, series: Mapping[str, Mapping[str, Picture]]) -> str:
    content, others = "", []
    for name, pictures in series.items():
        steps = pictures_over_steps(run, name, _IN_A_LINE) if _kind(name) in _FIRST else []
        if len(steps) > 1:
            figures = [_figure(each, name, run, f"step {each.step:,}" if each.step else "", False) for each in steps]
            content += f"<h4>{escape(name)}</h4>{_line(figures)}"
        else:
            others.append(_figure(pictures[run.run_id], name, run, escape(name), _is_wide(pictures)))
    return content + (_line(others) if others else "")


def _is_wide(pictures: Mapping[str, Picture]) -> bool:
    return any(picture.width > _WIDE * picture.height for picture in pictures.values())


def _lines(figures: list[str], count_shown: int) -> str:
    """The figures in lines, those after the first ones folded."""
    first, rest = figures[:count_shown], figures[count_shown:]
    more = f"<details><summary>{count(len(rest), 'more run')}</summary>{_line(rest)}</details>" if rest else ""
    return _line(first) + more


def _line(figures: list[str]) -> str:
    return f'<div class="line">{"".join(figures)}</div>'


def _who(group: Group, run: Run) -> str:
    best = group.best(run)
    return f'<b>{escape(run.run_id)}</b> <span class="value">{figure(best.value if best else None)}</span>'


def _figure(picture: Picture, name: str, run: Run, caption: str, wide: bool) -> str:
    """A picture with its caption, which is HTML."""
    text = escape(f"{name} of {run.run_id}" + (f" at step {picture.step:,}" if picture.step is not None else ""))
    if picture.source is None:
        shown = '<p class="none">The file can’t be read.</p>'
    else:
        shown = (
            f'<button type="button" class="picture" title="{text}"><img src="{picture.source}" alt="{text}" '
            f'width="{picture.width}" height="{picture.height}" loading="lazy" decoding="async"></button>'
        )
    css_class = ' class="wide"' if wide else ""
    return f"<figure{css_class}><figcaption>{caption}</figcaption>{shown}</figure>"
