"""The pictures of a group's best runs: beside one another, as many as a line holds, the further runs folded away."""

from html import escape

from pipelines.comparison.group import Group
from pipelines.comparison.page.embedding import MAX_RUNS, Picture, newest_picture, pictures_over_steps
from pipelines.comparison.runs import Run
from pipelines.console.formatting import count, figure

# Series that show what a model makes, and how many of the four columns one of their pictures takes.
_MADE = {"samples": 1, "captions": 2, "class_visualization": 2, "fooling": 2}
_COLUMNS = 4
_WIDE = 2.6  # width over height from which on a picture takes two columns


def is_made_of_pictures(group: Group) -> bool:
    """Returns whether what a topic is judged by is seen in its pictures: samples, captions, or images of classes."""
    return any(_kind(name) in _MADE for run in group.runs[:MAX_RUNS] for name in run.pictures)


def _kind(series: str) -> str:
    return series.split("/")[0]


def pictures_html(group: Group) -> str:
    """Returns the section of the pictures; empty without pictures.

    Each series is a block with the newest picture of the best runs. If there is a single run, a series that shows what
    the model makes has pictures from the first step to the last.
    """
    with_pictures = tuple(run for run in group.runs if run.pictures)
    if not with_pictures:
        return ""
    shown = with_pictures[:MAX_RUNS]
    num_runs = {name: sum(name in run.pictures for run in shown) for run in shown for name in run.pictures}
    names = sorted(num_runs, key=lambda name: (_kind(name) not in _MADE, -num_runs[name], name))
    order = ", best run first" if len(shown) > 1 else ""
    of = f"; the {len(shown)} best of {count(len(with_pictures), 'run')} with pictures"
    of = "" if len(shown) == len(with_pictures) else f"{of} shown"
    over_steps = [name for name in names if _kind(name) in _MADE and len(shown) == 1]
    blocks = "".join(
        _over_steps(name, shown[0]) if name in over_steps else _of_runs(name, group, shown) for name in names
    )
    of += f", {' and '.join(map(escape, over_steps))} from the first step on" if over_steps else ""
    return (
        '<section class="pictures"><div class="bar"><h3>Pictures</h3><p class="note">The newest of each series'
        f'{order}{of}. Click a picture to enlarge it.</p></div><div class="gallery">{blocks}</div></section>'
    )


def _of_runs(name: str, group: Group, runs: tuple[Run, ...]) -> str:
    large = _MADE.get(_kind(name), 1) > 1
    pictures = [(run, newest_picture(run, name, large)) for run in runs if name in run.pictures]
    wide = any(picture.width > _WIDE * picture.height for _, picture in pictures)
    figures = [_figure(picture, name, run, _who(group, run) if len(runs) > 1 else "") for run, picture in pictures]
    return _block(name, figures, 2 if wide or large else 1)


def _over_steps(name: str, run: Run) -> str:
    columns = _MADE[_kind(name)]
    pictures = pictures_over_steps(run, name, _COLUMNS // columns, columns > 1)
    captions = [f"step {each.step:,}" if each.step is not None and len(pictures) > 1 else "" for each in pictures]
    figures = [_figure(picture, name, run, caption) for picture, caption in zip(pictures, captions, strict=True)]
    return _block(name, figures, columns)


def _block(name: str, figures: list[str], columns: int) -> str:
    """The figures of a series in lines, those after the first line folded; one takes so many of the four columns."""
    in_a_line = _COLUMNS // columns
    first, rest = figures[:in_a_line], figures[in_a_line:]
    line = f'<div class="line" style="--count: {min(len(figures), in_a_line)}">'
    more = f"<details><summary>{count(len(rest), 'more run')}</summary>{line}{''.join(rest)}</div></details>"
    return (
        f'<div class="series" style="--columns: {len(first) * columns}"><h4>{escape(name)}</h4>'
        f"{line}{''.join(first)}</div>{more if rest else ''}</div>"
    )


def _who(group: Group, run: Run) -> str:
    best = group.best(run)
    return f'<b>{escape(run.run_id)}</b> <span class="value">{figure(best.value if best else None)}</span>'


def _figure(picture: Picture, name: str, run: Run, caption: str) -> str:
    """A picture with its caption, which is HTML."""
    text = escape(f"{name} of {run.run_id}" + (f" at step {picture.step:,}" if picture.step is not None else ""))
    if picture.source is None:
        shown = '<p class="none">The file can’t be read.</p>'
    else:
        shown = (
            f'<button type="button" class="picture" title="{text}"><img src="{picture.source}" alt="{text}" '
            f'width="{picture.width}" height="{picture.height}" loading="lazy" decoding="async"></button>'
        )
    return f"<figure>{f'<figcaption>{caption}</figcaption>' if caption else ''}{shown}</figure>"
