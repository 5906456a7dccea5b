"""How long `python -m pipelines.train fit` takes to its first training step, against importing LightningCLI alone.

    python -m benchmarks.startup [--rounds R]

The run is softmax regression on Digits, whose data load in no time; it ends, unfinished, when the first batch is about
to be trained on. Both are whole processes, in turn, and what is compared is the ratio within each round.
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

from benchmarks.timing import Figures

_IMPORT = ["-c", "from lightning.pytorch.cli import LightningCLI"]
_FIT = ["-m", "pipelines.train", "fit", "--config", "softmax", "--data", "Digits"]
_FIT += ["--trainer.callbacks=[{class_path: benchmarks.startup.EndAtFirstStep}]"]
_REACHED = 7  # the exit status that says that the first step came


class EndAtFirstStep(Callback):
    """Ends the process before its first training step."""

    def on_train_batch_start(self, *arguments: Any) -> None:
        os._exit(_REACHED)


def seconds(arguments: list[str], folder: Path, wandb_mode: str, status: int) -> float:
    """Wall time of a whole process of this interpreter."""
    environment = {**os.environ, "WANDB_MODE": wandb_mode, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    start = perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    assert done.returncode == status, done
    return perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> dict[str, list[float]]:
    """Prints the import's seconds, and each way to start as a ratio to it: median (smallest-largest) of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    imports: list[float] = []
    ratios: dict[str, list[float]] = {"disabled": [], "offline": []}
    with TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            imports.append(seconds(_IMPORT, Path(folder), "disabled", 0))
            for mode, found in ratios.items():
                found.append(seconds(_FIT, Path(folder), mode, _REACHED) / imports[-1])
    print(f"importing LightningCLI     {Figures.of(imports)} s")
    for mode, found in ratios.items():
        print(f"fit to step 1, W&B {mode:<8}{Figures.of(found)} × that")
    return ratios


if __name__ == "__main__":
    main()
