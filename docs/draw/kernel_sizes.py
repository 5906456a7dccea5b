"""Draws docs/pictures/kernel_sizes.png and prints the table of docs/convolution.md from a finished sweep.

    python -m pipelines.sweep run sweeps/kernel_size.yaml --engine local --parallel 1
    python docs/draw/kernel_sizes.py logs/sweeps/kernel_size-…

Accuracies are those of the sweep. Parameters, memory and time are measured here, for a training step of 128 images on
one core: the memory is that of the tensors which the backward pass needs, without weights; the time is CPU time.
"""

import sys
from pathlib import Path
from time import process_time
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from modules import ConvNet
from pipelines.search.search import Search

_OUT = Path(__file__).resolve().parents[1] / "pictures" / "kernel_sizes.png"
_BATCH, _ROUNDS = 128, 60


class Cost(NamedTuple):
    """Costs of a training step.

    Attributes:
        parameters: Number of parameters.
        megabytes: Tensors kept for the backward pass, in 10⁶ bytes.
        milliseconds: CPU time of forward and backward pass, the smallest of several rounds.
    """

    parameters: int
    megabytes: float
    milliseconds: float


def measure(kernel_size: int, padding: bool) -> Cost:
    """Measures the network of the sweep with a kernel size, with or without padding."""
    torch.manual_seed(0)
    model = ConvNet((3, 32, 32), 10, [16, 32], 1, kernel_size, padding=padding)
    images, labels = torch.randn(_BATCH, 3, 32, 32), torch.randint(10, (_BATCH,))
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.loss(model(images), labels)
    loss.backward()
    times = []
    for _ in range(_ROUNDS):
        start = process_time()
        model.loss(model(images), labels).backward()
        times.append(process_time() - start)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, sum(saved.values()) / 1e6, 1000 * min(times))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    accuracies: dict[tuple[int, bool], list[float]] = {}
    for trial in Search(Path(sys.argv[1])).trials():
        if trial.state == "finished":
            key = trial.values["model.kernel_size"], trial.values["model.padding"]
            accuracies.setdefault(key, []).append(max(trial.metric))
    print("| kernel | padding | accuracy | parameters | memory | time |\n| --- | --- | --- | --- | --- | --- |")
    costs = {}
    for (size, padding), values in sorted(accuracies.items()):
        cost = costs[size, padding] = measure(size, padding)
        seeds = ", ".join(f"{100 * value:.1f}" for value in values)
        print(
            f"| {size}×{size} | {'yes' if padding else 'no'} | {100 * sum(values) / len(values):.1f} % ({seeds}) "
            f"| {cost.parameters:,} | {cost.megabytes:.0f} MB | {cost.milliseconds:.0f} ms |"
        )
    figure = Figure(figsize=(12, 3.2), dpi=110, layout="constrained")
    panels = figure.subplots(1, 4)
    labels = ("validation accuracy", "parameters", "MB kept for backward", "ms of a step, one core")
    sizes = sorted({size for size, _ in accuracies})
    for padding, style in ((True, "o-"), (False, "s--")):
        means = [sum(accuracies[size, padding]) / len(accuracies[size, padding]) for size in sizes]
        columns = (means, *zip(*(costs[size, padding] for size in sizes), strict=True))
        for axes, label, column in zip(panels, labels, columns, strict=True):
            axes.plot(sizes, column, style, label="padding" if padding else "no padding")
            axes.set_title(label, fontsize=10)
            axes.set_xticks(sizes)
            axes.set_xlabel("kernel size")
            axes.grid(alpha=0.3)
    for axes in panels[1:]:
        axes.set_ylim(bottom=0)
    panels[0].legend(fontsize=8)
    figure.savefig(_OUT)


if __name__ == "__main__":
    main()
