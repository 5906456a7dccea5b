"""Pictures of a run: saved as PNG in its folder and logged to every logger that accepts images.

Callbacks draw matplotlib figures or uint8 arrays and pass them to `show`; `media.py` passes them to the loggers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from callbacks.media import log_image, step_of
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
    file = Path(folder) / "pictures" / name / f"{step_of(trainer):08d}.png"
    with atomic_write(file) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    log_image(trainer, name, picture, caption or "")


def figure_to_array(figure: "Figure") -> np.ndarray:
    """Renders a matplotlib figure to (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@dataclass(frozen=True)
class Text:
    """A text in a picture.

    Attributes:
        text: The text, of one or several lines.
        position: Pixels from the left and from the top: of its center, or of the middle of its lower edge.
        color: Its color.
        points: Size of the letters in points.
        above: Whether the position is that of its lower edge.
    """

    text: str
    position: tuple[float, float]
    color: str = "black"
    points: float = 8
    above: bool = False


def write_texts(picture: np.ndarray, texts: Sequence[Text]) -> np.ndarray:
    """Returns a picture (H, W, 3) uint8 with texts, in a tenth of the time that matplotlib takes for a hundred."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for text in texts:
        font, (x, y) = _font(text.points), text.position
        lines = text.text.split("\n")
        height = round(1.25 * text.points * DPI / 72)
        bottom = y if text.above else y + (len(lines) - 1) * height / 2
        for index, line in enumerate(reversed(lines)):
            at = (x, bottom - index * height)
            draw.text(at, line, fill=text.color, font=font, anchor="md" if text.above else "mm")
    return np.asarray(image)


@cache
def _font(points: float) -> ImageFont.FreeTypeFont:
    import matplotlib  # has the font; its parts that take long to import are not needed

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", round(points * DPI / 72))


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
        colors: Colors of the N titles by name; None draws them black.
        side: Side of the square for an image in inches of 120 pixels.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    tiles = _resized(images, round(side * DPI) - _GAP)
    tile_height, cell = tiles.shape[1], max(tiles.shape[1:3]) + _GAP
    above = 12 + 14 * max(text.count("\n") + 1 for text in titles)  # pixels of the titles
    top = 38 if title else 0
    columns = min(columns, len(tiles))
    height, width = top + -(-len(tiles) // columns) * (above + tile_height + _GAP), columns * cell
    picture = np.full((height, width, 3), 255, np.uint8)
    texts = [Text(title, (width / 2, top - 10), points=11, above=True)] if title else []
    for index, (tile, text) in enumerate(zip(tiles, titles, strict=False)):
        x, y = index % columns * cell, top + index // columns * (above + tile_height + _GAP) + above
        left = x + (cell - tile.shape[1]) // 2
        picture[y : y + tile_height, left : left + tile.shape[1]] = tile
        texts.append(Text(text, (x + cell / 2, y - 3), colors[index] if colors else "black", above=True))
    return write_texts(picture, texts)


def _resized(images: Tensor, side: int) -> np.ndarray:
    """Resizes images (N, C, H, W) to about `side` pixels, (N, h, w, 3) uint8; small ones by a whole factor."""
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).byte().expand(-1, 3, -1, -1)
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    factor = side / max(arrays.shape[1:3])
    if factor >= 1:
        return arrays.repeat(round(factor), 1).repeat(round(factor), 2)
    size = (max(1, round(arrays.shape[2] * factor)), max(1, round(arrays.shape[1] * factor)))
    return np.stack([np.asarray(Image.fromarray(array).resize(size, Image.Resampling.LANCZOS)) for array in arrays])


def as_pixels(images: Tensor) -> np.ndarray:
    """Converts images (N, C, H, W) in [0, 1], C is 1 or 3, to (N, H, W, 3) uint8, for the cells of tables."""
    pixels = images.detach().float().cpu().clamp(0, 1).mul(255).round().byte().expand(-1, 3, -1, -1)
    return pixels.permute(0, 2, 3, 1).numpy()


def stretch(images: Tensor) -> Tensor:
    """Scales each image (N, C, H, W) to fill [0, 1] with 0 at mid-gray, so that signs are visible."""
    largest = images.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(images.dtype).tiny)
    return 0.5 + 0.5 * images / largest
