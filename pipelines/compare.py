"""Compares runs: in a table in the terminal, and on a page with curves, settings and pictures that needs no network.

python -m pipelines.compare logs/softmax                  # the runs of a topic, best first
python -m pipelines.compare SWEEP                         # the trials of a sweep, by its name in logs/sweeps
python -m pipelines.compare logs                          # all runs, by topic and data set
python -m pipelines.compare RUN RUN --sort test/accuracy --out mine.html
python -m pipelines.compare SWEEP --group-by settings     # mean ± standard deviation over the seeds of each setting
python -m pipelines.compare SWEEP --watch                 # follows a running sweep: the page reloads itself
python -m pipelines.compare logs --wandb                  # also makes a W&B report, and a workspace for each topic
python -m pipelines.compare upload                        # sends runs tracked offline to W&B
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from pipelines.console.errors import user_errors
from pipelines.console.option_parser import OptionParser
from pipelines.console.signals import interrupt_on_signals

if TYPE_CHECKING:
    from pipelines.comparison.ranking import Comparison

_OUT = "comparison.html"
_WATCH_SECONDS = 5
_MAX_WATCH_SECONDS = 86_400  # browsers count milliseconds in 31 bits


def usage() -> str:
    """Returns the text that is printed without arguments."""
    return "\n".join(
        [
            "usage: python -m pipelines.compare PATH_OR_SWEEP... [--sort METRIC] [--group-by SETTING] [--watch] "
            "[--out FILE] [--wandb]",
            "       python -m pipelines.compare upload [PATH...]",
            "",
            "  python -m pipelines.compare logs/softmax             the runs of a topic, best first",
            "  python -m pipelines.compare SWEEP                    the trials of a sweep, by its name",
            "  python -m pipelines.compare logs                     all runs, by topic and data set",
            "  python -m pipelines.compare RUN RUN --sort val/loss  two runs, ranked by another metric",
            "  python -m pipelines.compare SWEEP --group-by lr      mean ± standard deviation for each learning rate",
            "  python -m pipelines.compare SWEEP --watch            follow a running sweep",
            "  python -m pipelines.compare logs --wandb             all runs, also as a W&B report and workspaces",
            "  python -m pipelines.compare upload                   send runs tracked offline to W&B",
        ]
    )


def parser() -> OptionParser:
    parser = OptionParser(
        prog="python -m pipelines.compare",
        description="Ranks runs by topic and data set, and writes a page with their curves, settings and pictures.",
        epilog="python -m pipelines.compare upload [PATH ...] sends runs that were tracked offline to W&B.",
    )
    target = "folder of a run, topic or sweep, or of all runs (logs); or the name of a run, topic or sweep in ./logs"
    parser.add_argument("targets", nargs="+", metavar="PATH_OR_SWEEP", help=target)
    parser.add_argument("--out", type=Path, default=Path(_OUT), metavar="FILE", help=f"HTML page (default: {_OUT})")
    parser.add_argument(
        "--sort",
        metavar="METRIC",
        help="metric to rank by, where a topic has it (default: that of the sweep, or else the one most runs monitor)",
    )
    parser.add_argument(
        "--group-by",
        metavar="SETTING",
        help="print mean ± standard deviation over the runs with equal values of a setting, or of several separated by "
        "commas; `settings` stands for all that differ but the seeds",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_watch_seconds,
        const=_WATCH_SECONDS,
        metavar="SECONDS",
        help="update the page, which reloads itself, until no run is running and the sweep has ended, or until Ctrl-C; "
        f"looks for changes every SECONDS, in [1, {_MAX_WATCH_SECONDS}] ({_WATCH_SECONDS} if not given)",
    )
    parser.add_argument("--wandb", action="store_true", help="also make a W&B report, and a workspace for each topic")
    return parser


def _watch_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= _MAX_WATCH_SECONDS:
        raise argparse.ArgumentTypeError(
            f"is {text}; it must be a number of seconds in [1, {_MAX_WATCH_SECONDS}], or have no value and be the last "
            "option."
        )
    return seconds


def _compare(arguments: Sequence[str]) -> None:
    options = parser().parse_args(arguments)
    if options.out.is_dir():
        raise UserError(f"--out is the folder {options.out}; give an HTML file in it.")
    from pipelines.comparison.averages import keys_to_group_by
    from pipelines.comparison.find_runs import find_runs
    from pipelines.comparison.page.write import write_page
    from pipelines.comparison.ranking import compare
    from pipelines.comparison.terminal_table import print_table
    from pipelines.comparison.watching import watch

    comparison: Comparison | None
    if options.watch is None:
        comparison = compare(find_runs(options.targets), options.targets, options.sort)
    else:
        interrupt_on_signals()
        comparison = watch(options.targets, options.out, options.sort, options.watch, options.group_by)
        if comparison is None:  # stopped before the first run
            return
    keys = None if options.group_by is None else keys_to_group_by(comparison, options.group_by)
    size = write_page(comparison, options.out, group_by=options.group_by)  # first: a pipe may close within the table
    print(f"{comparison.title}: {_ranked(comparison)}\n", flush=True)
    print_table(comparison, group_by=keys)
    print(f"\npage  {options.out}  ({size / 1e6:.1f} MB; open it in a browser, it needs no network)")
    if options.wandb:
        _report(comparison)


def _report(comparison: "Comparison") -> None:
    from pipelines.comparison.wandb_report import check_wandb, make_report, make_workspace

    check_wandb()
    print(f"W&B report  {make_report(comparison)}", flush=True)
    for group in comparison.groups:
        print(f"W&B workspace of {group.title}  {make_workspace(group)}", flush=True)


def _ranked(comparison: "Comparison") -> str:
    """What was compared, and by which metric it is ranked if it is a single group."""
    if len(comparison.groups) > 1:
        return comparison.summary
    (group,) = comparison.groups
    ranking = group.ranking_metric
    ranked = f"ranked by {ranking.name}" if ranking else "no run has a metric to rank by"
    return f"{group.title}, {group.summary}; {ranked}"


def _upload(arguments: Sequence[str]) -> None:
    parser = OptionParser(
        prog="python -m pipelines.compare upload",
        description="Sends to W&B the runs that were tracked offline, except those sent before or still running.",
    )
    parser.add_argument("targets", nargs="*", metavar="PATH", default=["logs"], help="as for compare (default: logs)")
    options = parser.parse_args(arguments)
    from pipelines.comparison.find_runs import find_runs
    from pipelines.syncing.upload import upload

    if not upload(find_runs(options.targets).folders):
        sys.exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; a user's mistake ends with one sentence and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with user_errors():
        if not arguments:
            print(usage())
        elif arguments[0] == "upload":
            _upload(arguments[1:])
        else:
            _compare(arguments)


if __name__ == "__main__":
    main()
