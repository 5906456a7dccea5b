"""Writes the comparison as one self-contained HTML page: tables, plots, pictures, style and scripts.

Its Content-Security-Policy forbids all network requests. Tables and pictures are plain HTML and so complete without
scripts; the scripts in scripts/ sort, filter, average and draw, each group of runs by itself.
"""

from html import escape
from pathlib import Path

from common.atomic_files import atomic_write
from pipelines.comparison.page.contents import contents
from pipelines.comparison.page.data import as_json, payload
from pipelines.comparison.page.group_html import fill, group_html, page_header
from pipelines.comparison.ranking import Comparison

_HERE = Path(__file__).parent
_STYLES = ("page", "contents", "table", "plots", "pictures")
_SCRIPTS = (
    "formatting", "colors", "view", "table", "filter", "grouping", "averages", "plot", "smoothing", "rows", "curves",
    "legend", "progress", "scatter", "axes", "parallel", "differences", "pictures", "start", "reload",
)  # fmt: skip


def write_page(comparison: Comparison, out: Path, reload: float | None = None, group_by: str | None = None) -> int:
    """Writes the page as one file that appears complete.

    Args:
        comparison: The comparison to show.
        out: Path of the HTML file; its folder is created if it does not exist.
        reload: Seconds after which the page, open in a browser, reads its file again; None for a page that is final.
        group_by: Settings to average over at first, as for `keys_to_group_by`; None to show each run.

    Returns:
        Size in bytes.

    Raises:
        OSError: If the file can't be written.
        UserError: If no run has the settings to group by.
    """
    page = render(comparison, reload, group_by, out.parent).encode()
    with atomic_write(out) as temporary:
        temporary.write_bytes(page)
    return len(page)


def render(
    comparison: Comparison, reload: float | None = None, group_by: str | None = None, folder: Path = Path()
) -> str:
    """Returns the HTML of the page; `folder` is the one that it will lie in, and the others are as for `write_page`."""
    from plotly.offline import get_plotlyjs

    groups = comparison.groups
    several = len(groups) > 1
    data = payload(comparison, reload, group_by)
    return fill(
        _text("page.html"),
        title=escape(comparison.title),
        style="\n".join(_text(f"styles/{name}.css") for name in _STYLES),
        header=page_header(comparison, reload),
        contents=contents(groups) if several else "",
        groups="\n".join(group_html(group, number, several, folder) for number, group in enumerate(groups, 1)),
        data=as_json(data),
        plotly=get_plotlyjs(),
        script="\n".join(_text(f"scripts/{name}.js") for name in _SCRIPTS),
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
