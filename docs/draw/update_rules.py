"""Draws docs/pictures/update_rules.gif: six update rules on a narrow valley and near a saddle point, step by step.

    python docs/draw/update_rules.py

The rules are those of modules/optimizers/update_rules.py. No random numbers are used.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from modules.optimizers.update_rules import adagrad, adam, momentum, nesterov_momentum, rmsprop, sgd

_OUT = Path(__file__).resolve().parents[1] / "pictures" / "update_rules.gif"
_STEPS = 60  # a frame each
_COLORS = {
    "SGD": "#d62728",
    "momentum": "#ff7f0e",
    "Nesterov": "#8c564b",
    "Adagrad": "#2ca02c",
    "RMSprop": "#9467bd",
    "Adam": "#1f77b4",
}


class Surface(NamedTuple):
    """A loss of two weights.

    Attributes:
        title: Title with the formula.
        gradient: Gradient at (x, y).
        value: Loss at x and y, elementwise.
        start: First weights.
        limits: Range of x and of y that is drawn.
        rates: Learning rate of each rule.
    """

    title: str
    gradient: Callable[[Tensor], Tensor]
    value: Callable[[Tensor, Tensor], Tensor]
    start: tuple[float, float]
    limits: tuple[tuple[float, float], tuple[float, float]]
    rates: dict[str, float]


SURFACES = (
    Surface(
        "narrow valley, x²/2 + 25 y²/2",
        lambda w: w * torch.tensor([1.0, 25.0], dtype=w.dtype),
        lambda x, y: x**2 / 2 + 25 * y**2 / 2,
        (-4.0, 1.0),
        ((-5.0, 2.5), (-1.5, 1.5)),
        {"SGD": 0.07, "momentum": 0.01, "Nesterov": 0.01, "Adagrad": 0.5, "RMSprop": 0.1, "Adam": 0.2},
    ),
    Surface(
        "saddle, x²/2 − y²/2",
        lambda w: w * torch.tensor([1.0, -1.0], dtype=w.dtype),
        lambda x, y: x**2 / 2 - y**2 / 2,
        (-2.0, 0.01),
        ((-2.5, 1.5), (-0.5, 2.0)),
        {"SGD": 0.05, "momentum": 0.05, "Nesterov": 0.05, "Adagrad": 0.1, "RMSprop": 0.05, "Adam": 0.1},
    ),
)


def paths(surface: Surface, steps: int) -> dict[str, Tensor]:
    """Returns the weights before and after each of the steps, (steps + 1, 2) for each rule."""
    found = {}
    for name, rate in surface.rates.items():
        w = torch.tensor(surface.start, dtype=torch.float64)
        state, second, path = torch.zeros_like(w), torch.zeros_like(w), [w]
        for t in range(1, steps + 1):
            g = surface.gradient(w)
            if name == "SGD":
                w = sgd(w, g, rate)
            elif name == "momentum":
                w, state = momentum(w, g, state, rate)
            elif name == "Nesterov":
                w, state = nesterov_momentum(w, g, state, rate)
            elif name == "Adagrad":
                w, state = adagrad(w, g, state, rate)
            elif name == "RMSprop":
                w, state = rmsprop(w, g, state, rate, decay=0.9)
            else:
                w, state, second = adam(w, g, state, second, t, rate)
            path.append(w)
        found[name] = torch.stack(path)
    return found


def main() -> None:
    figure = Figure(figsize=(8.4, 3.7), dpi=90, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for axes, surface in zip(panels, SURFACES, strict=True):
        (left, right), (bottom, top) = surface.limits
        x, y = torch.linspace(left, right, 200), torch.linspace(bottom, top, 200)
        values = surface.value(x[None, :], y[:, None])
        levels = torch.linspace(float(values.min()), float(values.max()), 22)
        axes.contour(x, y, values, levels=levels.tolist(), colors="0.8", linewidths=0.7)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        axes.set_title(surface.title, fontsize=10)
        for name, rate in surface.rates.items():
            axes.plot([], [], color=_COLORS[name], linewidth=2, label=f"{name}, {rate:g}")
        corner = "lower right" if surface is SURFACES[0] else "upper right"
        axes.legend(fontsize=7, loc=corner, title="learning rate", title_fontsize=7)
        axes.tick_params(labelsize=7)
    canvas.draw()
    background = Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")
    curves = []  # of each panel and rule, in pixels, clipped to the panel
    for axes, surface in zip(panels, SURFACES, strict=True):
        box = axes.get_window_extent()
        for name, path in paths(surface, _STEPS).items():
            pixels = axes.transData.transform(path.numpy())
            inside = [box.x0 <= px <= box.x1 and box.y0 <= py <= box.y1 for px, py in pixels]
            end = inside.index(False) if False in inside else len(inside)
            curves.append((_COLORS[name], [(px, background.height - py) for px, py in pixels[:end].tolist()]))
    frames = []
    for frame in range(_STEPS + 1):
        image = background.copy()
        draw = ImageDraw.Draw(image)
        for color, points in curves:
            shown = points[: frame + 1]
            if len(shown) > 1:
                draw.line(shown, fill=color, width=2)
            px, py = shown[-1]
            draw.ellipse((px - 3, py - 3, px + 3, py + 3), fill=color)
        frames.append(image)
    palette = frames[-1].quantize(48, dither=Image.Dither.NONE)
    indexed = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in frames]
    durations = [90] * _STEPS + [3000]
    indexed[0].save(_OUT, save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True)
    print(f"{_OUT.name}: {_OUT.stat().st_size // 1000} KB")
    for surface in SURFACES:
        for name, path in paths(surface, _STEPS).items():
            print(f"{surface.title}: {name} ends at ({path[-1, 0]:.2g}, {path[-1, 1]:.2g})")


if __name__ == "__main__":
    main()
