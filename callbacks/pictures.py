"""The one way in which a run shows a picture: a PNG in the run's folder, and an image in every logger that takes them.

Callbacks make matplotlib figures or uint8 arrays and hand them to `show`; they never ask which loggers there are.
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
    """Saves a picture as `<run folder>/pictures/<name>/<step>.png` and hands it to the loggers. Call it on all ranks.

    Args:
        trainer: the run that it belongs to.
        name: what it shows, such as "templates"; one series over the steps.
        picture: (H, W, 3) uint8.
        caption: a line below it, where the logger shows one.
    """
    folder = trainer.log_dir or trainer.default_root_dir  # log_dir is agreed on by all ranks
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
    """Draws a matplotlib figure: (H, W, 3) uint8."""
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
    """Images in rows with a title above each.

    Args:
        images: (N, C, H, W) in [0, 1], C being 1 or 3.
        titles: N texts.
        columns: images in a row.
        title: of the whole picture.
        colors: N matplotlib colors of the titles; black if left out.
        side: of an image, in inches of 120 pixels.

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
        axis.set_title(titles[i], fontsize=8, color=colors[i] if colors else "black")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure_to_array(figure)


def stretch(images: Tensor) -> Tensor:
    """Scales each of the images (N, C, H, W) so that it fills [0, 1]; 0 becomes mid-gray, so the sign is seen."""
    largest = images.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(images.dtype).tiny)
    return 0.5 + 0.5 * images / largest
