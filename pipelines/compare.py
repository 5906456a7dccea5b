"""Compares runs: a table in the terminal, and a page with curves, settings and pictures that needs no network.

python -m pipelines.compare logs/softmax                  # the runs of a topic, best first
python -m pipelines.compare SWEEP                         # the trials of a sweep, by its name below logs/sweeps
python -m pipelines.compare RUN RUN --sort test/accuracy --out mine.html
python -m pipelines.compare logs --wandb                  # the same as a report on W&B
python -m pipelines.compare upload                        # sends what was tracked offline to W&B
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from pipelines.console.errors import user_errors

_OUT = "comparison.html"


def usage() -> str:
    """What is printed without an argument."""
    return "\n".join(
        [
            "usage: python -m pipelines.compare PATH_OR_SWEEP... [--out FILE] [--sort METRIC] [--wandb]",
            "       python -m pipelines.compare upload [PATH...]",
            "",
            "  python -m pipelines.compare logs/softmax             the runs of a topic, best first",
            "  python -m pipelines.compare SWEEP                    the trials of a sweep, by its name",
            "  python -m pipelines.compare RUN RUN --sort val/loss  two runs, by another metric",
            "  python -m pipelines.compare logs --wandb             all runs, also as a report on W&B",
            "  python -m pipelines.compare upload                   send what was tracked offline to W&B",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.compare",
        description="Ranks runs in the terminal and writes a page with curves, settings and pictures.",
        epilog="python -m pipelines.compare upload [PATH ...] sends what was tracked offline to W&B.",
        allow_abbrev=False,
    )
    meant = "a run's folder, a topic's, a sweep's or logs; or the name of one below ./logs"
    parser.add_argument("targets", nargs="+", metavar="PATH_OR_SWEEP", help=meant)
    parser.add_argument("--out", type=Path, default=Path(_OUT), metavar="FILE", help=f"the page, by default {_OUT}")
    parser.add_argument("--sort", metavar="METRIC", help="rank by this metric instead of the headline metric")
    parser.add_argument("--wandb", action="store_true", help="make a W&B report of the same runs as well")
    return parser


def _compare(arguments: Sequence[str]) -> None:
    given = _parser().parse_args(arguments)
    if given.out.is_dir():
        raise UserError(f"--out is the folder {given.out}; give the name of an HTML file in it.")
    from pipelines.comparison.find_runs import find
    from pipelines.comparison.page import write_page
    from pipelines.comparison.ranking import compare
    from pipelines.comparison.terminal_table import print_table

    comparison = compare(find(given.targets), given.targets, given.sort)
    if comparison.headline:
        print(f"{comparison.title}: {comparison.summary}; ranked by {comparison.headline.metric}\n")
    else:
        print(f"{comparison.title}: {comparison.summary}; no run has figures to rank by\n")
    sys.stdout.flush()
    print_table(comparison)
    size = write_page(comparison, given.out)
    print(f"\npage  {given.out}  ({size / 1e6:.1f} MB; open it in a browser, it needs no network)")
    if given.wandb:
        from pipelines.comparison.wandb_report import make_report

        print(f"W&B report  {make_report(comparison)}")


def _upload(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.compare upload",
        description="Sends to W&B what runs tracked offline, unless it was sent before or the run still goes on.",
        allow_abbrev=False,
    )
    parser.add_argument("targets", nargs="*", metavar="PATH", default=["logs"], help="as for compare; by default logs")
    given = parser.parse_args(arguments)
    from pipelines.comparison.find_runs import find
    from pipelines.comparison.wandb_upload import upload

    if not upload(find(given.targets).folders):
        sys.exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; ends with status 2 and one sentence if it can't be carried out."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(usage())
        return
    with user_errors():
        if arguments[0] == "upload":
            _upload(arguments[1:])
        else:
            _compare(arguments)


if __name__ == "__main__":
    main()
