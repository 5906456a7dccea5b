"""Runs a row of results.yaml once with each seed, and compares the figure with the recorded one."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from pipelines.reproduction.rows import Row
from pipelines.tracking.curves import read_curves


@dataclass(frozen=True)
class Repetition:
    """What running a row with one seed gave.

    Attributes:
        row: The row.
        seed: The seed.
        value: The compared metric; None if a command failed.
        minutes: Time of all commands.
        run: Folder of the run.
    """

    row: Row
    seed: int
    value: float | None
    minutes: float
    run: Path

    @property
    def agrees(self) -> bool:
        """Whether the figure is within the row's tolerance of the recorded one."""
        return self.value is not None and abs(self.value - self.row.figure(self.seed)) <= self.row.tolerance


def repeat(row: Row, seed: int, name: str) -> Repetition:
    """Runs the commands of a row one after the other in the working folder; their output goes to the terminal.

    Args:
        row: The row.
        seed: Seed of the runs that it starts.
        name: Id of its run.
    """
    run, start = Path(), perf_counter()
    for words in row.run:
        environment = dict(os.environ)
        arguments = [str(run) if word == "RUN" else word for word in words]
        if "--config" in words:
            run = Path("logs", _topic(words), name)
            environment["WANDB_RUN_ID"] = name
            arguments += ["--seed_everything", str(seed)]
        status = subprocess.run([sys.executable, "-m", "pipelines.train", *arguments], env=environment, check=False)
        if status.returncode:
            return Repetition(row, seed, None, (perf_counter() - start) / 60, run)
    curve = read_curves(run / "metrics.csv").get(row.metric)
    value = curve.last.value if curve else None
    return Repetition(row, seed, value, (perf_counter() - start) / 60, run)


def _topic(words: list[str]) -> str:
    return Path(words[words.index("--config") + 1]).stem
