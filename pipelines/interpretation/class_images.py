"""`class_visualization`: an image that maximizes the score of each class."""

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
from pipelines.interpretation.results import picture_side, write_table

_MAX_FRAMES = 60
_FRAME_MILLISECONDS = 80
_LAST_MILLISECONDS = 2000  # pause on the last picture before the animation repeats


def show_classes(
    inspected: InspectedModel, labels: Sequence[int], out: Path, animation: bool, steps: int, **settings: Any
) -> None:
    """Writes classes.png, class_INDEX.png for each class and figures.csv; with `animation`, classes.gif.

    Args:
        inspected: Network.
        labels: Class indices, computed as one batch.
        out: Folder to write to.
        animation: Whether to write the intermediate images as an animation.
        steps: Steps of gradient ascent.
        settings: Further settings of `visualize_classes`.

    Raises:
        ValueError: If a value is out of range, or the network has no gradients.
    """
    frames: list[Tensor] = []
    every = -(-steps // _MAX_FRAMES)
    with tqdm(total=steps, unit="step", disable=None, leave=False) as bar:

        def report(number: int, images: Tensor) -> None:
            bar.update()
            if animation and (number % every == 0 or number == steps):
                frames.append(images.cpu())

        classes = torch.tensor(labels, device=inspected.device)
        images = visualize_classes(
            inspected.model, classes, inspected.image_shape, steps=steps, report=report, **settings
        )
    with torch.no_grad():
        logits = inspected.model(images).float()
    probabilities = logits.softmax(1).gather(1, classes[:, None])[:, 0]
    rows = []
    for i, label in enumerate(labels):
        write_png(to_uint8(images[i : i + 1])[0], out / f"class_{label}.png")
        rows.append(
            {
                "index": label,
                "class": inspected.class_names[label],
                "probability": float(probabilities[i]),
                "score": float(logits[i, label]),
                "steps": steps,
            }
        )
        name, score = short(inspected.class_names[label]), float(logits[i, label])
        print(f"{name}  {float(probabilities[i]):.1%}, score {score:.2f}")
    titles = [short(inspected.class_names[label]) for label in labels]
    columns = min(5, len(labels))
    write_png(image_grid(images, titles, columns, side=picture_side(inspected)), out / "classes.png")
    write_table(rows, out / "figures.csv")
    if animation:
        _write_animation([_sheet(frame, columns) for frame in frames], out / "classes.gif")


def _sheet(images: Tensor, columns: int) -> Image.Image:
    """Arranges images (B, C, H, W) in rows, without titles."""
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
