"""Trains a network pretrained by SimCLR and an unpretrained one on 1 %, 10 % and 100 % of the labels, and plots both.

    python -m benchmarks.label_fractions logs/simclr/RUN --out labels.png                       # whole networks
    python -m benchmarks.label_fractions logs/simclr/RUN --config linear_probe --steps 300      # linear layers

Each of the six trainings is a `fit` of the topic `finetune` or `linear_probe` with the same number of steps, so that
few labels are seen more often instead of less. --KEY VALUE are settings of `fit` for all of them, such as --data
Shapes. It prints the best validation accuracies as Markdown; the runs are kept in logs/.

Source: T. Chen et al., arXiv 2002.05709, table 7.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from pipelines.console.outputs import check_out_file
from pipelines.console.png import write_png

FRACTIONS = (0.01, 0.1, 1.0)
_VALIDATIONS = 3  # of each run


def training_size(topic: str, settings: Sequence[str]) -> int:
    """Returns the number of training images of a topic with further settings."""
    from pipelines.run.build import build
    from pipelines.train import resolve

    data = build(*resolve(["fit", "--config", topic, *settings, "--data.subset", "null"])).datamodule
    data.prepare_data()
    data.setup("fit")
    return len(data.splits["train"][1])


def accuracy(arguments: Sequence[str]) -> float:
    """Runs a `fit` and returns its best validation accuracy.

    Raises:
        ValueError: If the run fails.
    """
    command = [sys.executable, "-m", "pipelines.train", "fit", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    best = re.search(r"best val/accuracy +([\d.]+)", finished.stdout)
    if finished.returncode or best is None:
        last = (finished.stderr.strip() or finished.stdout.strip()).splitlines()[-1:]
        raise UserError(f"A training failed: {' '.join(last).removeprefix('error: ')}")
    return float(best[1])


def plot(labels: Sequence[int], accuracies: dict[str, list[float]], out: Path) -> None:
    """Plots accuracies over the number of labels, a curve for each network."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, PercentFormatter

    from callbacks.pictures import figure_to_array

    figure = Figure(figsize=(6, 3.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, values in accuracies.items():
        axes.plot(labels, values, marker="o", label=name)
    axes.set_xscale("log")
    ticks = [f"{number:,}\n{number / labels[-1]:.0%}" for number in labels]
    axes.set_xticks(labels, ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("training labels")
    axes.set_ylabel("validation accuracy")
    axes.grid(alpha=0.3)
    axes.legend()
    write_png(figure_to_array(figure), out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row for each fraction as soon as it is measured, and writes the plot.

    Raises:
        ValueError: If a setting is wrong or a training fails.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="run or checkpoint of simclr")
    parser.add_argument("--config", choices=["finetune", "linear_probe"], default="finetune", help="what is trained")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="steps of each training")
    parser.add_argument("--out", type=Path, default=Path("label_fractions.png"), metavar="FILE", help="the plot")
    given, settings = parser.parse_known_args(arguments)
    if given.steps < _VALIDATIONS:
        raise UserError(f"--steps is {given.steps}; it must be at least {_VALIDATIONS}.")
    if not Path(given.checkpoint).exists():
        raise UserError(f"There is no {given.checkpoint}; give a run or checkpoint of simclr.")
    check_out_file(given.out)
    length = ["--trainer.max_epochs", "-1", "--trainer.max_steps", str(given.steps)]
    length += ["--trainer.check_val_every_n_epoch", "null"]
    length += ["--trainer.val_check_interval", str(given.steps // _VALIDATIONS)]
    networks = {"pretrained": ["--model.checkpoint", given.checkpoint], "not pretrained": []}
    size = training_size(given.config, settings)
    labels = [max(1, round(fraction * size)) for fraction in FRACTIONS]
    accuracies: dict[str, list[float]] = {name: [] for name in networks}
    print(f"| labels | {' | '.join(networks)} |\n| --- | --- | --- |")
    for number in labels:
        for name, checkpoint in networks.items():
            accuracies[name].append(
                accuracy(["--config", given.config, *length, "--data.subset", str(number), *settings, *checkpoint])
            )
        values = " | ".join(f"{values[-1]:.2%}" for values in accuracies.values())
        print(f"| {number:,} ({number / size:.0%}) | {values} |", flush=True)
    plot(labels, accuracies, given.out)
    print(f"plot: {given.out}")


if __name__ == "__main__":
    main()
