"""Draws docs/pictures/gradient_descent.png: full-batch, mini-batch and stochastic gradient descent side by side.

    python docs/draw/gradient_descent.py

Left: the paths of two weights of a linear regression. Right: softmax regression on the data set Digits, over the number
of images read and over the number of steps, each at the best of four learning rates. Gradients are those by hand; seed
0.
"""

import sys
from pathlib import Path
from time import process_time

import torch
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from datamodules import Digits
from modules.linear.loss_gradients import cross_entropy, cross_entropy_backward
from modules.networks.layer_gradients import affine, affine_backward
from modules.optimizers.update_rules import sgd

_OUT = Path(__file__).resolve().parents[1] / "pictures" / "gradient_descent.png"
_COLORS = {"full batch": "black", "mini-batch": "tab:blue", "stochastic": "tab:red"}
_EPOCHS = 8


def regression_paths() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Returns inputs (N, 2), targets (N,) of a linear regression, and the weights over the steps, (steps + 1, 2)."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 2, generator=generator) * torch.tensor([1.0, 0.5])
    targets = inputs @ torch.tensor([1.0, 1.0]) + 0.7 * torch.randn(256, generator=generator)
    found = {}
    for name, batch_size, lr, steps in (
        ("full batch", 256, 0.3, 40),
        ("mini-batch", 16, 0.3, 40),
        ("stochastic", 1, 0.1, 160),
    ):
        w, path = torch.tensor([-1.5, -1.5]), []
        for _ in range(steps):
            path.append(w)
            chosen = torch.randperm(256, generator=generator)[:batch_size]
            errors = inputs[chosen] @ w - targets[chosen]
            w = sgd(w, inputs[chosen].T @ errors / batch_size, lr)
        found[name] = torch.stack([*path, w])
    return inputs, targets, found


def train_digits(images: Tensor, labels: Tensor, batch_size: int, lr: float) -> tuple[list[int], list[float], float]:
    """Trains softmax regression for `_EPOCHS` epochs.

    Args:
        images: Images (N, D).
        labels: Labels (N,).
        batch_size: Images of a step.
        lr: Learning rate.

    Returns:
        Numbers of steps taken, the loss on all images after each of them, and the CPU seconds of the steps.
    """
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.zeros(10, images.shape[1]), torch.zeros(10)
    steps, losses, seconds = [0], [float(cross_entropy(affine(images, weight, bias), labels))], 0.0
    every = max(1, len(images) // batch_size // 8)
    step = 0
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
            start = process_time()
            x, y = images[chosen], labels[chosen]
            _, d_weight, d_bias = affine_backward(cross_entropy_backward(affine(x, weight, bias), y), x, weight)
            weight, bias = sgd(weight, d_weight, lr), sgd(bias, d_bias, lr)
            seconds += process_time() - start
            step += 1
            if step % every == 0:
                steps.append(step)
                losses.append(float(cross_entropy(affine(images, weight, bias), labels)))
    return steps, losses, seconds


def main() -> None:
    torch.set_num_threads(1)
    figure = Figure(figsize=(12, 3.9), dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    inputs, targets, found = regression_paths()
    first, second = torch.linspace(-2, 2.2, 80), torch.linspace(-2.2, 2.2, 80)
    grid = torch.stack(torch.meshgrid(first, second, indexing="xy"), -1)
    loss = ((grid @ inputs.T - targets) ** 2).mean(2) / 2
    left.contour(first, second, loss, levels=20, colors="0.85", linewidths=0.7)
    for name in ("stochastic", "mini-batch", "full batch"):
        path = found[name]
        left.plot(path[:, 0], path[:, 1], color=_COLORS[name], linewidth=1, marker=".", markersize=3, label=name)
    left.set_title("linear regression, two weights", fontsize=10)
    left.legend(fontsize=8, loc="lower right")
    data = Digits(val_fraction=0)
    data.setup("fit")
    images, labels = data.splits["train"]
    flat = images.flatten(1).float() / 255
    for name, batch_size, rates in (
        ("full batch", len(flat), (0.3, 1.0, 3.0, 10.0)),
        ("mini-batch", 32, (1.0, 3.0, 10.0, 30.0)),
        ("stochastic", 1, (0.03, 0.1, 0.3, 1.0)),
    ):
        runs = {lr: train_digits(flat, labels, batch_size, lr) for lr in rates}
        lr = min(runs, key=lambda lr: runs[lr][1][-1])  # the last loss
        steps, losses, seconds = runs[lr]
        label = f"{name} ({batch_size:,}), lr {lr:g}"
        middle.plot([step * batch_size / len(flat) for step in steps], losses, color=_COLORS[name], label=label)
        right.plot([max(step, 0.8) for step in steps], losses, color=_COLORS[name], label=label)
        print(f"{label}: {steps[-1]:,} steps, loss {losses[-1]:.4f}, {seconds:.3f} CPU seconds")
    middle.set_title("softmax regression on Digits", fontsize=10)
    middle.set_xlabel("epoch (images read / 1,437)")
    right.set_title("the same over steps", fontsize=10)
    right.set_xlabel("steps")
    right.set_xscale("log")
    for axes in (middle, right):
        axes.set_ylabel("loss on all training images")
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(_OUT)


if __name__ == "__main__":
    main()
