"""`class_visualization`: the image that the network finds most typical of each class, drawn from noise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from callbacks.pictures import image_grid
from modules.interpretation.class_visualization import visualize_classes
from pipelines.console.png import write_png
from pipelines.interpretation.class_names import short
from pipelines.interpretation.inspected_model import InspectedModel, to_uint8
from pipelines.interpretation.results import side_of, write_table

_MOST_FRAMES = 60
_FRAME_MILLISECONDS = 80
_LAST_MILLISECONDS = 2000  # the last picture stands still before the animation starts again


def show_classes(
    subject: InspectedModel, labels: Sequence[int], out: Path, animation: bool, steps: int, **settings: Any
) -> None:
    """Writes classes.png, class_INDEX.png for each class and figures.csv; with `animation`, classes.gif.

    Args:
        subject: the network.
        labels: the classes, drawn as one batch.
        out: folder to write to.
        animation: whether to keep what it looked like on the way.
        steps: of gradient ascent.
        settings: further settings of `visualize_classes`.

    Raises:
        ValueError: a value out of range, or no gradients.
    """
    frames: list[Tensor] = []
    every = -(-steps // _MOST_FRAMES)
    with tqdm(total=steps, unit="step", disable=None, leave=False) as bar:

        def report(number: int, images: Tensor) -> None:
            bar.update()
            if animation and (number % every == 0 or number == steps):
                frames.append(images.cpu())

        wanted = torch.tensor(labels, device=subject.device)
        images = visualize_classes(subject.model, wanted, subject.image_shape, steps=steps, report=report, **settings)
    with torch.no_grad():
        logits = subject.model(images).float()
    shares = logits.softmax(1).gather(1, wanted[:, None])[:, 0]
    rows = []
    for i, label in enumerate(labels):
        write_png(to_uint8(images[i : i + 1])[0], out / f"class_{label}.png")
        rows.append(
            {
                "index": label,
                "class": subject.class_names[label],
                "probability": float(shares[i]),
                "score": float(logits[i, label]),
                "steps": steps,
            }
        )
        print(f"{short(subject.class_names[label])}  {float(shares[i]):.1%}, score {float(logits[i, label]):.2f}")
    titles = [short(subject.class_names[label]) for label in labels]
    columns = min(5, len(labels))
    write_png(image_grid(images, titles, columns, side=side_of(subject)), out / "classes.png")
    write_table(rows, out / "figures.csv")
    if animation:
        _write_animation([_sheet(frame, columns) for frame in frames], out / "classes.gif")


def _sheet(images: Tensor, columns: int) -> Image.Image:
    """Images (B, C, H, W) side by side in rows, without titles."""
    pixels = to_uint8(images)  # (B, H, W, 3)
    height, width = pixels.shape[1:3]
    rows = -(-len(pixels) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for i, array in enumerate(pixels):
        sheet.paste(Image.fromarray(array), (i % columns * width, i // columns * height))
    return sheet


def _write_animation(frames: list[Image.Image], file: Path) -> None:
    durations = [_FRAME_MILLISECONDS] * (len(frames) - 1) + [_LAST_MILLISECONDS]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0)
