"""Draws docs/pictures/normalization_activations.png and normalization_gradients.png: histograms by layer.

    python docs/draw/normalization_inside.py

The networks are those of docs/normalization.md, four hidden layers of 100 ReLU units on CIFAR-10, before training, for
three scales of the initial weights; 512 training images in one batch, seed 0.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from datamodules import CIFAR10
from modules import FullyConnectedNet

_PICTURES = Path(__file__).resolve().parents[1] / "pictures"
_SCALES = (0.01, 0.1, 0.5)
_NORMS: dict[str, str] = {"none": "no normalization", "batch": "batch norm", "layer": "layer norm"}


def inside(norm: Any, scale: float, images: Tensor, labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Returns what enters each ReLU for a batch of images, and the gradient of the loss there: (B, D) each.

    Args:
        norm: Normalization: none, batch or layer.
        scale: Standard deviation of the initial weights.
        images: Preprocessed images (B, C, H, W).
        labels: Labels (B,).
    """
    torch.manual_seed(0)
    model = FullyConnectedNet((3, 32, 32), 10, [100] * 4, normalization=norm, weight_scale=scale).train()
    values: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        given[0].retain_grad()
        values.append(given[0])

    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
            module.register_forward_pre_hook(keep)
    model.loss(model(images), labels).backward()
    return [value.detach() for value in values], [value.grad for value in values if value.grad is not None]


def draw(found: dict[tuple[str, float], list[Tensor]], title: str, out: Path) -> None:
    """Draws histograms, a row for each scale, a column for each normalization, a curve for each layer."""
    figure = Figure(figsize=(9.5, 7.2), dpi=110, layout="constrained")
    grid = figure.subplots(len(_SCALES), len(_NORMS), sharex=True)
    for row, scale in zip(grid, _SCALES, strict=True):
        for axes, norm in zip(row, _NORMS, strict=True):
            for number, values in enumerate(found[norm, scale], start=1):
                sizes = values.abs().flatten().clamp(min=1e-12).log10()
                counts = sizes.histc(60, -10, 4) / len(sizes)
                axes.plot(torch.linspace(-10, 4, 60), counts, color=f"C{number - 1}", label=f"layer {number}")
            axes.set_title(f"{_NORMS[norm]}, weight scale {scale:g}", fontsize=9)
            axes.set_yticks([])
            axes.grid(alpha=0.3)
    for axes in grid[-1]:
        axes.set_xlabel("log₁₀ of the absolute value")
    grid[0, 0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.savefig(out)


def main() -> None:
    torch.set_num_threads(1)
    data = CIFAR10()
    data.setup("fit")
    images, labels = data.training_images(512)
    activations, gradients = {}, {}
    for norm in _NORMS:
        for scale in _SCALES:
            activations[norm, scale], gradients[norm, scale] = inside(norm, scale, images, labels)
            sizes = [f"{float(part.std()):.1e}" for part in activations[norm, scale]]
            slopes = [f"{float(part.std()):.1e}" for part in gradients[norm, scale]]
            print(f"{norm:5} {scale:4g}  before ReLU {' '.join(sizes)}  gradient {' '.join(slopes)}")
    draw(activations, "What enters each ReLU before training", _PICTURES / "normalization_activations.png")
    draw(
        gradients,
        "Gradient of the loss with respect to what enters each ReLU, before training",
        _PICTURES / "normalization_gradients.png",
    )


if __name__ == "__main__":
    main()
