"""Time from `python -m pipelines.train fit` to the first training step, against importing LightningCLI alone.

    python -m benchmarks.startup [--rounds R]

The run is softmax regression on Digits, whose loading takes no time; it exits just before the first training step. Both
are whole processes, in turn, and the result is the ratio within each round.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from lightning.pytorch import Callback

from benchmarks.timing import Summary

_IMPORT = ["-c", "from lightning.pytorch.cli import LightningCLI"]
_FIT = ["-m", "pipelines.train", "fit", "--config", "softmax", "--data", "Digits"]
_FIT += ["--trainer.callbacks=[{class_path: benchmarks.startup.EndAtFirstStep}]"]
_REACHED = 7  # exit status of a run that reached the first step


class EndAtFirstStep(Callback):
    """Ends the process before its first training step."""

    def on_train_batch_start(self, *arguments: Any) -> None:
        os._exit(_REACHED)


def seconds(arguments: list[str], folder: Path, wandb_mode: str, status: int) -> float:
    """Returns the wall time of a process of this interpreter."""
    environment = {**os.environ, "WANDB_MODE": wandb_mode, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    start = perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    assert done.returncode == status, done
    return perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> dict[str, list[float]]:
    """Prints the time of the import and that of each start relative to it: median (smallest-largest) of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    imports: list[float] = []
    ratios: dict[str, list[float]] = {"disabled": [], "offline": []}
    with TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            imports.append(seconds(_IMPORT, Path(folder), "disabled", 0))
            for mode, measured in ratios.items():
                measured.append(seconds(_FIT, Path(folder), mode, _REACHED) / imports[-1])
    print(f"importing LightningCLI     {Summary.of(imports)} s")
    for mode, measured in ratios.items():
        print(f"fit to step 1, W&B {mode:<8}{Summary.of(measured)} × that")
    return ratios


if __name__ == "__main__":
    main()
