"""Draws generated samples: the same latents after each epoch, an animation of them, and walks between latents.

A walk from latent a to latent b goes along an arc, not along the straight line between them:

    slerp(a, b; t) = [sin((1 − t) θ) a + sin(t θ) b] / sin θ,    θ the angle between a and b

Normally distributed latents of many dimensions nearly all have the same length; points on the straight line are
shorter than any latent that the generator was trained on, while those on the arc keep the length. If every picture of a
walk is a plausible image and the change is smooth, the generator has learned more than single images.

Sources: K. Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985; T. White, arXiv 1609.04468.

Shapes: N images, C channels, H×W pixels, Z latent values.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from callbacks.pictures import show
from common.errors import UserError
from common.ranges import check_range

_SECONDS = 8  # of an animation, a quarter of them for the last picture


@runtime_checkable
class ImageGenerator(Protocol):
    """A model that generates images from latents."""

    def latents(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        """Returns random latents (N, Z)."""

    def generate(self, latents: Tensor) -> Tensor:
        """Returns images (N, C, H, W) with pixels in [0, 1] for latents (N, Z)."""


class SampleGrid(Callback):
    """Draws a square of samples from fixed latents at the end of epochs, and an animation after `fit`.

    The animation is `<run folder>/pictures/samples.gif`; it shows all pictures of the run, those before a resume too.

    Args:
        side: Number of samples per row and column, ≥ 1.
        every_n_epochs: Number of epochs between two pictures, ≥ 1.
        seed: Seed of the latents.

    Raises:
        ValueError: If a value is out of its range or the model generates no images.
    """

    def __init__(self, side: int = 8, every_n_epochs: int = 1, seed: int = 0) -> None:
        check_range("side", side, side >= 1, "at least 1")
        check_range("every_n_epochs", every_n_epochs, every_n_epochs >= 1, "at least 1")
        self.side = side
        self.every_n_epochs = every_n_epochs
        self.seed = seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_generates(pl_module, self)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        assert isinstance(pl_module, ImageGenerator)
        latents = pl_module.latents(self.side**2, torch.Generator().manual_seed(self.seed))
        show(trainer, "samples", tiles(pl_module.generate(latents), self.side))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "pictures"
        if trainer.is_global_zero:
            animate(sorted((folder / "samples").glob("*.png")), folder / "samples.gif")


class LatentWalk(Callback):
    """Draws walks at the end of `fit`: rows of images along an arc from one random latent to another.

    Args:
        rows: Number of walks, ≥ 1.
        steps: Number of images of a walk, both ends included, ≥ 2.
        seed: Seed of the latents.

    Raises:
        ValueError: If a value is out of its range or the model generates no images.
    """

    def __init__(self, rows: int = 6, steps: int = 10, seed: int = 1) -> None:
        check_range("rows", rows, rows >= 1, "at least 1")
        check_range("steps", steps, steps >= 2, "at least 2")
        self.rows = rows
        self.steps = steps
        self.seed = seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_generates(pl_module, self)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ImageGenerator)
        ends = pl_module.latents(2 * self.rows, torch.Generator().manual_seed(self.seed))
        start, end = ends.chunk(2)
        walks = slerp(start, end, torch.linspace(0, 1, self.steps, device=ends.device))  # (rows, steps, Z)
        show(trainer, "latent_walk", tiles(pl_module.generate(walks.flatten(0, 1)), self.steps))


def check_generates(module: LightningModule, callback: Callback) -> None:
    """Refuses a model that generates no images, in the name of a callback that shows them.

    Raises:
        ValueError: If the model has no `latents` and `generate`.
    """
    if not isinstance(module, ImageGenerator):
        raise UserError(
            f"{type(module).__name__} generates no images to show; remove callbacks.{type(callback).__name__} from "
            "trainer.callbacks."
        )


def slerp(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """Interpolates spherically between latents (N, Z) and (N, Z) at fractions (S,); returns latents (N, S, Z)."""
    cosine = torch.cosine_similarity(start, end, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)  # sin θ must not be 0
    angle, t = cosine.acos()[:, None, None], fractions[None, :, None]
    return (((1 - t) * angle).sin() * start[:, None] + (t * angle).sin() * end[:, None]) / angle.sin()


def tiles(images: Tensor, columns: int, zoom: int = 2, gap: int = 2) -> np.ndarray:
    """Tiles images without titles.

    Args:
        images: Images (N, C, H, W) in [0, 1], C is 1 or 3.
        columns: Images in a row, ≥ 1.
        zoom: Factor by which each side is enlarged.
        gap: Pixels between images.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    pixels = images.detach().float().cpu().clamp(0, 1).mul(255).round().byte().expand(-1, 3, -1, -1)
    pixels = pixels.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)  # (N, 3, height, width)
    height, width = (side + gap for side in pixels.shape[2:])
    rows = -(-len(pixels) // columns)
    picture = np.full((rows * height - gap, columns * width - gap, 3), 255, np.uint8)
    for index, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
        top, left = index // columns * height, index % columns * width
        picture[top : top + height - gap, left : left + width - gap] = image
    return picture


def animate(pictures: list[Path], out: Path) -> None:
    """Writes an endless animated GIF of picture files; writes none if there are fewer than two."""
    if len(pictures) < 2:
        return
    frames = [Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE) for file in pictures]
    duration = max(20, 750 * _SECONDS // len(frames))  # milliseconds
    durations = [duration] * (len(frames) - 1) + [250 * _SECONDS]
    frames[0].save(out, save_all=True, append_images=frames[1:], duration=durations, loop=0)
