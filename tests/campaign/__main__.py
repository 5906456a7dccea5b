"""`python -m tests.campaign --minutes 20 --seed N`: looks for faults with damaged files, odd command lines and kills.

Prints a line for each distinct traceback, hang, executed file, silent acceptance or difference, with the command that
repeats its case, and at the end the number of cases and faults of each kind. Exit status 1 if there was a fault.

    python -m tests.campaign --seed 0 --case checkpoints/17     # one case again, its folder kept
"""

import argparse
import resource
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.campaign.campaign import KINDS, Campaign, make_case
from tests.campaign.outcome import Judge

_MEMORY_BYTES = 8 * 2**30  # of data a process may have, so that a case never fills the machine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long it runs (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (default: 0)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of cases, with commas (default: all)")
    parser.add_argument("--case", metavar="KIND/NUMBER", help="run one case and keep its folder")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    campaign = Campaign(options.seed, partial(print, flush=True))
    if options.case:
        kind, _, number = options.case.partition("/")
        case = make_case(options.seed, kind, int(number))
        folder = Path(tempfile.mkdtemp(prefix="case-"))
        print(case.label, *case.commands, f"in {folder / 'cases' / 'case'}", sep="\n", flush=True)
        campaign.judge(kind, int(number), case, Judge(folder), folder / "cases" / "case")
    else:
        campaign.run(options.minutes, options.kinds.split(","))
    print(campaign.summary())
    return 1 if campaign.distinct else 0


if __name__ == "__main__":
    sys.exit(main())
