"""Writes the figures of results.yaml into RESULTS.md and README.md: `make results`.

A table stands between `<!-- results ROW ROW … -->` and `<!-- end of results -->`, a single figure between
`<!-- ROW -->` and `<!-- -->`. Both are replaced, so that no figure is written by hand twice.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from pipelines.reproduction.rows import Results, Row, read_results

PROJECT = Path(__file__).parents[1]
FILES = ("RESULTS.md", "README.md")

_TABLE = re.compile(r"<!-- results (.+?) -->\n.*?<!-- end of results -->", re.DOTALL)
_FIGURE = re.compile(r"<!-- (\w+) -->.*?<!-- -->")
_FRACTIONS = ("accuracy", "exact_match")
_NAMES = {"exact_match": "exact match", "cider": "CIDEr-D"}


def render(text: str, results: Results) -> str:
    """Returns the text of a file with its tables and figures as results.yaml has them.

    Raises:
        KeyError: If the text names a row that does not exist.
    """
    rows = results.rows
    text = _TABLE.sub(lambda match: _table(match[1].split(), results), text)
    return _FIGURE.sub(lambda match: f"<!-- {match[1]} -->{_rounded(rows[match[1]])}<!-- -->", text)


def _table(names: list[str], results: Results) -> str:
    rows = [results.rows[name] for name in names]
    metrics = list(rows[0].figures)
    header = ["topic", *map(_heading, metrics), "command of each seed", "time", "row"]
    lines = [f"<!-- results {' '.join(names)} -->", _line(header), _line(["---"] * len(header))]
    lines += [_line(_cells(row, metrics, results.machines)) for row in rows]
    return "\n".join([*lines, "<!-- end of results -->"])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _heading(metric: str) -> str:
    split, _, name = metric.partition("/")
    return f"{'validation' if split == 'val' else split} {_NAMES.get(name, name)}"


def _cells(row: Row, metrics: list[str], machines: Mapping[str, str]) -> list[str]:
    figures = [_figure(row, metric) for metric in metrics]
    figures[0] = f"**{figures[0].partition(' (')[0]}**{''.join(figures[0].partition(' (')[1:])}"
    if row.note:
        figures[0] += f", {row.note}"
    time = f"{row.minutes:g} min on {machines[row.machine]}"
    fit = shlex.join(["python", "-m", "pipelines.train", *row.run[0]])
    return [row.label, *figures, f"`{fit}`", time, f"`{row.name}`"]


def _figure(row: Row, metric: str) -> str:
    values = row.figures.get(metric)
    if values is None:
        return "–"
    texts = [_text(metric, value) for value in values]
    if len(texts) == 1:
        return texts[0]
    return f"{_text(metric, mean(values))} ({', '.join(text.removesuffix(' %') for text in texts)})"


def _text(metric: str, value: float) -> str:
    return f"{value * 100:.2f} %" if metric.partition("/")[2] in _FRACTIONS else f"{value:.4g}"


def _rounded(row: Row) -> str:
    return f"{row.mean * 100:.1f} %" if row.metric.partition("/")[2] in _FRACTIONS else f"{row.mean:.4g}"


def main() -> None:
    results = read_results()
    for file in (PROJECT / name for name in FILES):
        file.write_text(render(file.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
