"""Pictures of a run: saved as PNG in its folder and logged to every logger that accepts images.

Callbacks draw matplotlib figures or uint8 arrays and pass them to `show`, which knows the loggers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from common.atomic_files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120  # pixels per inch
_GAP = 10  # pixels between images


def show(trainer: Trainer, name: str, picture: np.ndarray, caption: str | None = None) -> None:
    """Saves a picture as `<run folder>/pictures/<name>/<step>.png` and logs it. Call it on all ranks.

    Args:
        trainer: Trainer of the run.
        name: Name of the series of pictures over the steps, such as "templates".
        picture: Picture (H, W, 3) uint8.
        caption: Caption, where the logger shows one.
    """
    folder = trainer.log_dir or trainer.default_root_dir  # log_dir is broadcast, so call it on all ranks
    if not trainer.is_global_zero:
        return
    step = trainer.global_step or trainer.fit_loop.epoch_loop._batches_that_stepped  # a test of a checkpoint has this
    file = Path(folder) / "pictures" / name / f"{step:08d}.png"
    with atomic_write(file) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            # No step: the run's x axis is trainer/global_step, and an older explicit step would be dropped.
            logger.log_image(name, [picture], caption=[caption or ""])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, step, dataformats="HWC")


def figure_to_array(figure: "Figure") -> np.ndarray:
    """Renders a matplotlib figure to (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@dataclass(frozen=True)
class Text:
    """A short text in a picture.

    Attributes:
        text: The text.
        center: Its center in pixels from the left and from the top.
        color: Its color.
    """

    text: str
    center: tuple[float, float]
    color: str


def write_texts(picture: np.ndarray, texts: Sequence[Text], points: float = 8) -> np.ndarray:
    """Returns a picture (H, W, 3) uint8 with texts; matplotlib takes ten times as long for a hundred of them."""
    from matplotlib.font_manager import findfont

    font = ImageFont.truetype(findfont("DejaVu Sans"), round(points * DPI / 72))
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for text in texts:
        draw.text(text.center, text.text, fill=text.color, font=font, anchor="mm")
    return np.asarray(image)


def image_grid(
    images: Tensor,
    titles: Sequence[str],
    columns: int,
    title: str = "",
    colors: Sequence[str] | None = None,
    side: float = 1.35,
) -> np.ndarray:
    """Draws images in a grid with a title above each.

    Args:
        images: Images (N, C, H, W) in [0, 1], C is 1 or 3.
        titles: Titles of the N images.
        columns: Images in a row.
        title: Title of the picture.
        colors: Matplotlib colors of the N titles; None draws them black.
        side: Side of the square for an image in inches of 120 pixels.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    from matplotlib.figure import Figure  # takes 0.3 s to import

    tiles = _resized(images, round(side * DPI) - _GAP)
    tile_height, cell = tiles.shape[1], max(tiles.shape[1:3]) + _GAP
    above = 12 + 14 * max(text.count("\n") + 1 for text in titles)  # pixels of the titles
    top = 38 if title else 0
    columns = min(columns, len(tiles))
    height, width = top + -(-len(tiles) // columns) * (above + tile_height + _GAP), columns * cell
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    corners = []  # axes for each image, and a layout that fits them, take seven times as long
    for index, text in enumerate(titles[: len(tiles)]):
        x, y = index % columns * cell, top + index // columns * (above + tile_height + _GAP) + above
        corners.append((x + (cell - tiles.shape[2]) // 2, y))
        color = colors[index] if colors else "black"
        at = {"x": (x + cell / 2) / width, "y": 1 - (y - 5) / height}
        figure.text(**at, s=text, ha="center", fontsize=8, color=color, parse_math=False)
    figure.text(0.5, 1 - 8 / height, title, ha="center", va="top", fontsize=11, parse_math=False)
    picture = figure_to_array(figure)
    for tile, (x, y) in zip(tiles, corners, strict=True):
        picture[y : y + tile_height, x : x + tile.shape[1]] = tile
    return picture


def _resized(images: Tensor, side: int) -> np.ndarray:
    """Resizes images (N, C, H, W) to about `side` pixels, (N, h, w, 3) uint8; small ones by a whole factor."""
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).byte().expand(-1, 3, -1, -1)
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    factor = side / max(arrays.shape[1:3])
    if factor >= 1:
        return arrays.repeat(round(factor), 1).repeat(round(factor), 2)
    size = (max(1, round(arrays.shape[2] * factor)), max(1, round(arrays.shape[1] * factor)))
    return np.stack([np.asarray(Image.fromarray(array).resize(size, Image.Resampling.LANCZOS)) for array in arrays])


def stretch(images: Tensor) -> Tensor:
    """Scales each image (N, C, H, W) to fill [0, 1] with 0 at mid-gray, so that signs are visible."""
    largest = images.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(images.dtype).tiny)
    return 0.5 + 0.5 * images / largest
