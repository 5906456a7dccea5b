"""Pictures of a run: saved as PNG in its folder and logged to every logger that accepts images.

Callbacks draw matplotlib figures or uint8 arrays and pass them to `show`, which knows the loggers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    step = trainer.global_step
    file = Path(folder) / "pictures" / name / f"{step:08d}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file)
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
        side: Side of an image in inches of 120 pixels.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    from matplotlib.figure import Figure  # takes 0.3 s to import

    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    size = (side * columns, (side + 0.25) * rows + (0.4 if title else 0.0))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    arrays = images.detach().float().cpu().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    for i, (axis, array) in enumerate(zip(axes, arrays, strict=False)):
        axis.imshow(array, interpolation="nearest" if array.shape[0] < 120 * side else "antialiased")
        axis.set_title(titles[i], fontsize=8, color=colors[i] if colors else "black", parse_math=False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure_to_array(figure)


def stretch(images: Tensor) -> Tensor:
    """Scales each image (N, C, H, W) to fill [0, 1] with 0 at mid-gray, so that signs are visible."""
    largest = images.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(images.dtype).tiny)
    return 0.5 + 0.5 * images / largest
