"""The campaign: cases of all kinds in turn, until the time is over; a line for each distinct fault."""

import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.campaign import checkpoints, command_lines, configs, data_files, images, journals, kills, run_files
from tests.campaign.case import Case
from tests.campaign.outcome import LIMIT_SECONDS, Finding, Judge

KINDS: dict[str, Callable[[Random], Case]] = {
    "configs": configs.case,
    "command_lines": command_lines.case,
    "data_files": data_files.case,
    "checkpoints": checkpoints.case,
    "run_files": run_files.case,
    "journals": journals.case,
    "images": images.case,
    "kills": kills.case,
}
_LONGEST_LINE = 700  # characters
FAULTS = ("traceback", "hang", "code", "silent", "difference", "refused", "status", "sentence", "changed", "leftover")


def make_case(seed: int, kind: str, number: int) -> Case:
    """The case of that number; it depends on the three alone."""
    return KINDS[kind](Random(f"{seed} {kind} {number}"))


class Campaign:
    """Runs cases and keeps count.

    Args:
        seed: Seed of all cases.
        report: Takes each line of the report.
        limit: Seconds after which a command hangs.
    """

    def __init__(self, seed: int, report: Callable[[str], None], limit: float = LIMIT_SECONDS) -> None:
        self.seed = seed
        self.cases: Counter[str] = Counter()  # by kind
        self.ended: Counter[tuple[str, str]] = Counter()  # cases without a fault, by kind and how they ended
        self.faults: Counter[tuple[str, str]] = Counter()  # by kind and what
        self.distinct: Counter[tuple[str, str]] = Counter()  # by what and key
        self._report = report
        self._limit = limit

    def run(self, minutes: float, kinds: list[str]) -> None:
        """Runs cases 0, 1, 2, … of each kind until the time is over."""
        end = time.monotonic() + 60 * minutes
        with tempfile.TemporaryDirectory(prefix="campaign-") as name:
            judge = Judge(Path(name), self._limit)
            number = 0
            while True:
                for kind in kinds:
                    if time.monotonic() > end:
                        return
                    folder = Path(name) / "cases" / "case"  # `..` holds no good files, which differ from run to run
                    self.judge(kind, number, make_case(self.seed, kind, number), judge, folder)
                    shutil.rmtree(folder, ignore_errors=True)
                number += 1

    def judge(self, kind: str, number: int, case: Case, judge: Judge, folder: Path) -> list[Finding]:
        """Runs one case; reports its findings that are not known yet."""
        label, result = judge(case, folder)
        self.cases[kind] += 1
        if not result.findings:
            self.ended[kind, "accepted" if result.accepted else "declined"] += 1
        for finding in result.findings:
            self.faults[kind, finding.what] += 1
            self.distinct[finding.what, finding.key] += 1
            if self.distinct[finding.what, finding.key] == 1:
                again = f"python -m tests.campaign --seed {self.seed} --case {kind}/{number}"
                line = f"{finding.what}  {label}: {finding.detail}".replace("\n", " ")
                line = re.sub(r"(.)\1{60,}", r"\1…", line)  # a value of 20,000 characters
                self._report(f"{line[:_LONGEST_LINE]}  [{again}]")
        return result.findings

    def summary(self) -> str:
        """The number of cases and faults of each kind."""
        columns = [("accepted", self.ended), ("declined", self.ended), *((what, self.faults) for what in FAULTS)]
        lines = [f"{'kind':<14}{'cases':>7}" + "".join(f"{name:>12}" for name, _ in columns)]
        for kind, cases in self.cases.items():
            lines.append(f"{kind:<14}{cases:>7}" + "".join(f"{counter[kind, name]:>12}" for name, counter in columns))
        lines.append(f"{sum(self.cases.values())} cases, {len(self.distinct)} distinct faults with seed {self.seed}")
        return "\n".join(lines)
