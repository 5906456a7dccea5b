"""Draws the plots of docs/normalization.md and docs/optimizers.md from finished sweeps, of docs/simclr.md from a run.

    python docs/study_pictures.py logs/sweeps/normalization-… logs/sweeps/optimizers-… logs/simclr/RUN

Run it from the repository's folder, with any of these folders. The plots are written to docs/pictures.
"""

import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.search.search import Search, Trial
from pipelines.tracking.curves import read_curves

_PICTURES = Path(__file__).parent / "pictures"
_SEARCHED = ("model.normalization", "data.batch_size", "model.weight_scale", "optimizer.init_args.lr")
_NORMS = ("none", "batch", "layer")
_TITLES = {"none": "no normalization", "batch": "batch norm", "layer": "layer norm"}
_COLORS = dict(zip(_NORMS, ("tab:gray", "tab:blue", "tab:orange"), strict=True))


def last_accuracy(trial: Trial) -> float:
    """Returns the accuracy after the last epoch; that of a run that diverged is 0.1, chance with ten classes."""
    return trial.metric[-1] if trial.metric and trial.state == "finished" else 0.1


def normalization(trials: list[Trial]) -> None:
    """Plots accuracy over learning rate × weight scale for each norm and batch size, and the best of each."""
    accuracies = {tuple(trial.values[name] for name in _SEARCHED): last_accuracy(trial) for trial in trials}
    batches, scales, rates = (sorted({key[i] for key in accuracies}) for i in (1, 2, 3))
    top = max(accuracies.values())
    figure = Figure(figsize=(9.5, 7.5), dpi=120, layout="constrained")
    grid = figure.subplots(len(_NORMS), len(batches))
    for norm, row in zip(_NORMS, grid, strict=True):
        for batch, axes in zip(batches, row, strict=True):
            table = [[accuracies[norm, batch, scale, rate] for rate in rates] for scale in scales]
            axes.imshow(table, cmap="viridis", vmin=0.1, vmax=top, aspect="auto", origin="lower")
            for i, values in enumerate(table):
                for j, value in enumerate(values):
                    color = "white" if value < 0.6 * top else "black"
                    axes.text(j, i, f"{value:.0%}", ha="center", va="center", fontsize=8, color=color)
            axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
            axes.set_yticks(range(len(scales)), [f"{scale:g}" for scale in scales])
            axes.set_title(f"{_TITLES[norm]}, batch {batch}", fontsize=9)
            if norm == _NORMS[-1]:
                axes.set_xlabel("learning rate")
            if batch == batches[0]:
                axes.set_ylabel("weight scale")
    figure.suptitle("Validation accuracy of a five-layer net after 10 epochs on 10,000 images", fontsize=11)
    figure.savefig(_PICTURES / "normalization_grid.png")

    figure = Figure(figsize=(9.5, 3.2), dpi=120, layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True)
    columns = (
        (left, 1, batches, "batch size"),
        (middle, 2, scales, "weight scale"),
        (right, 3, rates, "learning rate"),
    )
    for axes, index, values, label in columns:
        for norm in _NORMS:
            best = [
                max(accuracy for key, accuracy in accuracies.items() if key[0] == norm and key[index] == value)
                for value in values
            ]
            axes.plot(values, best, marker="o", color=_COLORS[norm], label=_TITLES[norm])
        _finish(axes, label)
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    left.set_ylabel("best over the rest, val/accuracy")
    right.legend(fontsize=8)
    figure.savefig(_PICTURES / "normalization_best.png")


def optimizers(trials: list[Trial], search: Search) -> None:
    """Plots accuracy over the learning rate for each update rule, and the training loss of each at its best."""
    rules: dict[str, list[Trial]] = {}
    for trial in trials:
        rules.setdefault(_rule(trial.values["optimizer"]), []).append(trial)
    figure = Figure(figsize=(9.5, 3.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    for rule, unsorted in rules.items():
        by_rate = sorted(unsorted, key=lambda trial: trial.values["optimizer.init_args.lr"])
        rates = [trial.values["optimizer.init_args.lr"] for trial in by_rate]
        left.plot(rates, [last_accuracy(trial) for trial in by_rate], marker="o", label=rule)
        best = max(by_rate, key=last_accuracy)
        folder = search.run_folder(best)
        assert folder is not None
        curve = read_curves(folder / "metrics.csv")["train/loss"]
        right.plot(
            [p.step for p in curve.points],
            [p.value for p in curve.points],
            label=f"{rule}, {best.values['optimizer.init_args.lr']:g}",
        )
    left.set_xscale("log")
    _finish(left, "learning rate")
    left.set_ylabel("val/accuracy after 10 epochs")
    left.legend(fontsize=8)
    _finish(right, "step")
    right.set_ylabel("train/loss")
    right.legend(fontsize=8, title="at its best learning rate", title_fontsize=8)
    figure.savefig(_PICTURES / "optimizers.png")


def simclr(run: Path) -> None:
    """Plots the kNN accuracy on validation images after each epoch, and the training loss."""
    curves = read_curves(run / "metrics.csv")
    accuracy, loss = curves["val/knn_accuracy"].points, curves["train/loss"].points
    steps_per_epoch = accuracy[-1].step / len(accuracy)
    figure = Figure(figsize=(7, 3.6), dpi=110, layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    left.plot([p.step / steps_per_epoch for p in accuracy], [p.value for p in accuracy], marker="o", markersize=3)
    right.plot([p.step / steps_per_epoch for p in loss], [p.value for p in loss], color="tab:orange")
    _finish(left, "epoch")
    left.set_ylabel("val/knn_accuracy", color="tab:blue")
    right.set_ylabel("train/loss", color="tab:orange")
    figure.savefig(_PICTURES / "simclr_curve.png")


def _rule(optimizer: dict[str, Any]) -> str:
    name, settings = optimizer["class_path"].rsplit(".", 1)[-1], optimizer.get("init_args", {})
    if name != "SGD":
        return str(name)
    return "Nesterov momentum" if settings.get("nesterov") else "momentum" if settings.get("momentum") else "SGD"


def _finish(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.grid(alpha=0.3)


def main() -> None:
    if not sys.argv[1:]:
        sys.exit(__doc__)
    for argument in sys.argv[1:]:
        if Path(argument).resolve().parent.name == "simclr":
            simclr(Path(argument))
            continue
        search = Search(Path(argument))
        if search.sweep.name == "normalization":
            normalization(search.trials())
        else:
            optimizers(search.trials(), search)


if __name__ == "__main__":
    main()
