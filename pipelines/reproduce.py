"""Runs the commands behind the figures of RESULTS.md again and compares: `python -m pipelines.reproduce --within 30m`.

Each row of results.yaml has commands, seeds, the figures that they gave and a tolerance. A figure that differs by more
than that, or a command that fails, ends the program with status 1.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from pipelines.console.errors import user_errors
from pipelines.console.formatting import count
from pipelines.console.option_parser import OptionParser

if TYPE_CHECKING:
    from pipelines.reproduction.rows import Results, Row

_MINUTES = {"s": 1 / 60, "m": 1.0, "min": 1.0, "h": 60.0}


def parser() -> OptionParser:
    """Returns the parser of the command line."""
    top = OptionParser(
        "python -m pipelines.reproduce",
        description="Run the commands behind the figures of RESULTS.md again, and compare within their tolerance. "
        "Without ROW and --within, list the rows.",
    )
    top.add_argument("rows", nargs="*", metavar="ROW", help="rows of results.yaml, such as svm")
    top.add_argument("--seeds", type=int, default=1, metavar="N", help="number of seeds of each row (default: 1)")
    top.add_argument(
        "--within", type=_minutes, metavar="TIME", help="such as 30m or 2h: the rows, shortest first, that fit"
    )
    top.add_argument("--file", type=Path, help="another file of rows (default: results.yaml of the project)")
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; exit status 1 if a figure differs or a command fails, 2 for a user's mistake."""
    with user_errors():
        agree = _reproduce(parser().parse_args(arguments))
    if not agree:
        sys.exit(1)


def _minutes(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h)", text)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"is {text!r}; give a time such as 90s, 30m or 2h")
    return float(match[1]) * _MINUTES[match[2]]


def _reproduce(options: argparse.Namespace) -> bool:
    from pipelines.reproduction.choice import choose, missing_for, seeds_of
    from pipelines.reproduction.repetition import repeat
    from pipelines.reproduction.report import aligned, table, write_report
    from pipelines.reproduction.rows import RESULTS, read_results

    if options.seeds < 1:
        raise UserError(f"--seeds is {options.seeds}; it must be at least 1.")
    results = read_results(options.file or RESULTS)
    if not options.rows and options.within is None:
        listed = results.rows.values()
        print(aligned([[row.name, f"{row.metric} {row.mean:.4f}", f"{row.minutes:g} min a seed"] for row in listed]))
        return True
    rows = choose(results.rows, options.rows, options.seeds, options.within)
    skipped = {row.name: f"needs {', '.join(missing)}" for row in rows if (missing := missing_for(row))}
    rows = [row for row in rows if row.name not in skipped]
    notes = _notes_on_data(rows, results)
    minutes = sum(row.minutes * seeds_of(row, options.seeds) for row in rows)
    print(f"{count(len(rows), 'row')}, about {minutes:.0f} min on the recorded machines", flush=True)
    start = f"{datetime.now():%Y%m%d-%H%M%S}"
    done = []
    for row in rows:
        for seed in row.seeds[: options.seeds]:
            print(f"\n{row.name}, seed {seed}, about {row.minutes:g} min", flush=True)
            done.append(repeat(row, seed, f"{row.name}-{seed}-{start}"))
            lines = table(done, skipped)
            write_report(Path("logs", "reproduced", f"{start}.md"), lines, notes, done)  # after each: it may be stopped
    print(f"\n{aligned(table(done, skipped))}\n")
    print(*notes, sep="\n")
    if done:
        print(f"report  {Path('logs', 'reproduced', f'{start}.md')}")
    return all(one.agrees for one in done)


def _notes_on_data(rows: "Sequence[Row]", results: "Results") -> list[str]:
    """Returns a remark for each data set that is not the one of the recorded figures."""
    from pipelines.reproduction.checksums import data_checksum

    notes = []
    for name in sorted({row.data for row in rows if row.data is not None}):
        found = data_checksum(name)
        if found != results.data[name]:
            notes.append(
                f"{name} has the checksum {found}, not {results.data[name]} of the recorded figures: these are other "
                "images, so figures may differ by more than their tolerance."
            )
    return notes


if __name__ == "__main__":
    main()
