"""Runs `pipelines.check` on the topics with several seeds and prints how many pass, and the slowest time, in Markdown.

    python -m benchmarks.checks [CONFIG ...] [--seeds N] [--KEY VALUE ...]

Without CONFIG, it runs all topics. All checks run in one process on one thread: the CPU time is that of one core,
which other programs hardly affect; importing torch is not included. --KEY VALUE are settings of `fit` for every topic.
The lines of a check that does not pass are printed below the table. A topic whose data or weights are missing isn't
counted; its row says what is missing. Exit status 1 means that a check failed.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO

from benchmarks.timing import Clock, one_thread
from common.errors import UserError
from pipelines.check import check
from pipelines.run.topics import topics


@dataclass
class Checked:
    """Results of one topic.

    Attributes:
        passed: Number of seeds with which all checks passed.
        times: Time of each seed.
        failures: Lines of the checks that did not pass, with their seed.
        refused: Why the topic can't be checked here; None if it can.
    """

    passed: int = 0
    times: list[Clock] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    refused: str | None = None

    def row(self, topic: str) -> str:
        """Returns the topic's row of the table."""
        if self.refused is not None:
            return f"| `{topic}` | not run: {self.refused} | | |"
        cpu, wall = (max(getattr(time, clock) for time in self.times) for clock in ("cpu", "wall"))
        return f"| `{topic}` | {self.passed} of {len(self.times)} | {cpu:.0f} | {wall:.0f} |"


def check_topic(topic: str, seeds: int, settings: Sequence[str]) -> Checked:
    """Checks a topic with the seeds 0, 1, … and the same further settings."""
    checked = Checked()
    for seed in range(seeds):
        start, printed = Clock.now(), StringIO()
        try:
            with redirect_stdout(printed):
                passed = check(["--config", topic, "--seed_everything", str(seed), *settings])
        except UserError as error:
            checked.refused = str(error)
            break
        checked.times.append(Clock.now() - start)
        checked.passed += passed
        lines = printed.getvalue().splitlines()
        checked.failures += [f"{topic}, seed {seed}: {line}" for line in lines if line[14:18] == "FAIL"]
    return checked


def main(arguments: Sequence[str] | None = None) -> bool:
    """Prints a row for each topic as soon as it is checked, and returns whether all checks passed.

    Raises:
        ValueError: If there is no such topic, or no seed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="topics or YAML files; all topics without them")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="number of seeds, from 0")
    options, settings = parser.parse_known_args(arguments)
    if options.seeds < 1:
        raise UserError(f"seeds is {options.seeds}; it must be at least 1.")
    print("| topic | passed | CPU seconds, slowest | seconds, slowest |\n| --- | ---: | ---: | ---: |")
    failures: list[str] = []
    with one_thread():
        for topic in options.configs or topics():
            checked = check_topic(topic, options.seeds, settings)
            failures += checked.failures
            print(checked.row(topic), flush=True)
    print("", *failures, sep="\n")
    return not failures


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
