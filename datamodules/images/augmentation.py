"""Augmentation of whole batches of uint8 images, and one thin adapter for albumentations.

Random crop and horizontal flip are one gather: the store holds every image padded and also mirrored, and a view of all
its windows is indexed by (image, mirrored, row, column). Cutout and rotation work on the gathered batch.

    crop       pad by p with zeros or with the image's own reflection, then a window at a random offset in [0, 2p]²
    flip       mirrored left to right with probability ½; or alternating: each image is mirrored in every other epoch,
               starting in the first for a random half of them. Two epochs then show both sides of every image, where
               independent draws show half of the images the same side twice (K. Jordan, arXiv 2404.00498, section 3.6)
    cutout     a square of side s, centered anywhere in the image, filled with the training mean (arXiv 1708.04552)
    rotation   by an angle in [−r, r] degrees, bilinear, zeros outside

Shapes: N images in the store, B in the batch, C channels, H×W pixels.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import UserError
from datamodules.loader import Batch

Flip = bool | Literal["alternate"]
Border = Literal["zeros", "reflect"]

_SPREAD = 0x9E3779B97F4A7C15  # this and the next: constants of the SplitMix64 generator, the latter as signed integers
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def draw_mirrored(batch: Batch, flip: Flip) -> Tensor:
    """Draws which of the batch's images are mirrored, (B,) int64 of 0 and 1, for a `flip` that is not false."""
    if flip != "alternate":
        return batch.randint(2)
    # A random bit for each image, a function of (run, image) alone, so it is the same on any rank and after a resume.
    key = batch.indices + (batch.run_seed * _SPREAD & 0x7FFF_FFFF_FFFF_FFFF)
    for factor, shift in zip(_MIX, (30, 27), strict=True):
        key = (key ^ (key >> shift)) * factor
    return ((key >> 40) + batch.epoch) % 2


def padded(images: Tensor, padding: int, border: Border) -> Tensor:
    """Adds a border of `padding` pixels to images: (N, C, H, W) to (N, C, H + 2p, W + 2p)."""
    if border == "zeros":
        return F.pad(images, (padding,) * 4)
    for dimension in (2, 3):  # by index, since torch reflects no uint8 images on GPUs
        last = images.shape[dimension] - 1
        indices = torch.arange(-padding, last + 1 + padding, device=images.device).abs()
        images = images.index_select(dimension, last - (last - indices).abs())
    return images


class WindowStore:
    """Images from which a randomly shifted and mirrored batch is one gather.

    Args:
        images: Images, (N, C, H, W) uint8.
        padding: p, pixels of padding on every side, ≥ 0, and below H and W if the border is reflected.
        flip: Whether to hold the mirrored images too (twice the memory), and how they are drawn.
        border: Content of the padding.
    """

    def __init__(self, images: Tensor, padding: int, flip: Flip, border: Border = "zeros") -> None:
        self.padding = padding
        self.flip = flip
        height, width = images.shape[2:]
        bordered = padded(images, padding, border) if padding else images
        stored = torch.stack([bordered, bordered.flip(-1)], 1) if flip else bordered[:, None]
        self.stored = stored  # (N, 1 or 2, C, H+2p, W+2p)
        # A view, not a copy: (N, 1 or 2, 2p+1, 2p+1, C, H, W).
        self.windows = stored.unfold(3, height, 1).unfold(4, width, 1).permute(0, 1, 3, 4, 2, 5, 6)

    def gather(self, batch: Batch, positions: Tensor | None = None) -> Tensor:
        """Returns the batch's images, each with its own random offset and flip: (B, C, H, W) uint8.

        Args:
            batch: The batch.
            positions: Positions of its images in the store, (B,); None takes their indices.
        """
        device = self.windows.device
        positions = batch.indices if positions is None else positions
        if not (self.padding or self.flip):
            return self.padded(positions.to(device, non_blocking=True))  # one copy per image, not one per row
        mirrored = draw_mirrored(batch, self.flip) if self.flip else torch.zeros(len(batch.indices), dtype=torch.int64)
        offsets = [batch.randint(2 * self.padding + 1) for _ in range(2)] if self.padding else [mirrored * 0] * 2
        keys = [key.to(device, non_blocking=True) for key in (positions, mirrored, *offsets)]
        return self.windows[tuple(keys)]

    def padded(self, indices: Tensor) -> Tensor:
        """Returns padded, unmirrored images, (B, C, H+2p, W+2p) uint8, for a pipeline that crops them."""
        return self.stored[:, 0].index_select(0, indices)  # several times as fast as indexing by a tensor


@dataclass
class DecodedWindows:
    """The windows of images that are decoded for each batch: the same batches as those of a `WindowStore` of them.

    Args:
        decode: Function from indices (B,) to images (B, C, H, W) uint8.
        padding: As that of `WindowStore`.
        flip: As that of `WindowStore`.
        border: As that of `WindowStore`.
    """

    decode: Callable[[Tensor], Tensor]
    padding: int
    flip: Flip
    border: Border

    def gather(self, batch: Batch) -> Tensor:
        """Returns the batch's images, each with its own random offset and flip: (B, C, H, W) uint8."""
        store = WindowStore(self.decode(batch.indices), self.padding, self.flip, self.border)
        return store.gather(batch, torch.arange(len(batch.indices)))

    def padded(self, indices: Tensor) -> Tensor:
        """Returns padded, unmirrored images, (B, C, H+2p, W+2p) uint8, for a pipeline that crops them."""
        images = self.decode(indices)
        return padded(images, self.padding, self.border) if self.padding else images


def cutout(images: Tensor, side: int, fill: Tensor, batch: Batch) -> Tensor:
    """Fills a square of `side` pixels, clipped at the borders, in each image (B, C, H, W) with `fill` (C,)."""
    height, width = images.shape[2:]
    row, column = batch.randint(height).to(images.device), batch.randint(width).to(images.device)
    rows = torch.arange(height, device=images.device) - row[:, None] + side // 2  # (B, H): 0 at the square's top
    columns = torch.arange(width, device=images.device) - column[:, None] + side // 2
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return torch.where(inside[:, None], fill.to(images).reshape(1, -1, 1, 1), images)


def rotate(images: Tensor, degrees: float, batch: Batch) -> Tensor:
    """Rotates each image (B, C, H, W) uint8 about its center by a random angle in [−degrees, degrees]."""
    angle = (2 * batch.rand() - 1).mul(torch.pi / 180 * degrees).to(images.device)
    height, width = images.shape[2:]
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # affine_grid counts in half widths and half heights: the ratio keeps a rotation a rotation if they differ.
    rows = [torch.stack([cos, -sin * height / width, zero], 1), torch.stack([sin * width / height, cos, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    rotated = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return rotated.round_().to(torch.uint8)


class Albumentations:
    """An albumentations pipeline from a configuration: `[{HorizontalFlip: {p: 0.5}}, {RandomCrop: {height: 8, …}}]`.

    albumentations has its own random state, which ignores torch's seed: by default all workers draw the same numbers
    and every epoch repeats them. Here the state is seeded for each batch with the batch's seed, and the images of the
    batch draw from it in turn. (`transform(images=batch)` would apply one draw to the whole batch.)

    Under data-parallel training each rank adds the index of its first sample in the global batch to the seed.

    Args:
        transforms: Names of albumentations' classes with their arguments, applied in order.

    Raises:
        ValueError: If a class is unknown or refuses its arguments, or an entry has another form.
    """

    def __init__(self, transforms: Sequence[str | Mapping[str, Any]]) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import looks for a newer version on the network
        import albumentations as A

        pipeline = []
        for entry in transforms:
            name, arguments = _name_and_arguments(entry)
            transform = getattr(A, name, None)
            if not (isinstance(transform, type) and issubclass(transform, A.BasicTransform)):
                near = get_close_matches(name, dir(A), 1)
                hint = f"did you mean {near[0]}?" if near else "see albumentations' documentation for their names."
                raise UserError(f"albumentations has no transform {name!r}; {hint}")
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("error", "Argument")  # a misspelled argument is only a warning
                    pipeline.append(transform(**arguments))
            except Exception as error:
                raise UserError(f"albumentations.{name} refuses {arguments}: {_one_line(error)}.") from error
        self.transform = A.Compose(pipeline, is_check_shapes=False)  # there is no mask of the same shape to check

    def __call__(self, images: Tensor, batch: Batch) -> Tensor:
        """Transforms each image of (B, C, H', W') uint8 separately: (B, C, H, W) uint8.

        Raises:
            ValueError: If a transform fails on an image, or the results are not uint8 images of one size.
        """
        self.transform.set_random_seed((batch.seed + batch.start) % 2**32)
        arrays = images.permute(0, 2, 3, 1).contiguous().numpy()  # (B, H', W', C)
        try:
            transformed = [np.asarray(self.transform(image=array)["image"]) for array in arrays]
        except Exception as error:
            raise UserError(
                f"The albumentations pipeline fails on an image of shape {tuple(images.shape[1:])}: {_one_line(error)}."
            ) from error
        if dtypes := {str(array.dtype) for array in transformed} - {"uint8"}:
            raise UserError(
                f"The albumentations pipeline returns {', '.join(dtypes)} images; it must return uint8: leave out "
                "Normalize, ToFloat and the like, since the preprocessing setting replaces them."
            )
        if len(sizes := {array.shape[:2] for array in transformed}) > 1:
            raise UserError(
                f"The albumentations pipeline returns images of different sizes, {' and '.join(map(str, sizes))}; "
                "end it with a RandomCrop or Resize to one size."
            )
        stacked = torch.from_numpy(np.stack(transformed))
        # The memory layout of all other batches, which also makes the following steps faster.
        return stacked.reshape(*stacked.shape[:3], -1).permute(0, 3, 1, 2).contiguous()


def _name_and_arguments(entry: object) -> tuple[str, dict[str, Any]]:
    """Reads a pipeline's entry: a name, or a mapping of one name to its arguments."""
    items = [(entry, None)] if isinstance(entry, str) else list(entry.items()) if isinstance(entry, Mapping) else []
    if len(items) != 1 or not isinstance(items[0][1], Mapping | None):
        raise UserError(
            f"albumentations has the entry {entry!r}; it must be a transform's name, or a name with a mapping of "
            "arguments such as {HorizontalFlip: {p: 0.5}}."
        )
    return str(items[0][0]), dict(items[0][1] or {})


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


@dataclass
class AugmentedImages:
    """Fetches augmented batches; a class, since a closure can't be pickled for worker processes that are not forked.

    Args:
        store: Training images.
        labels: Class of each image, (N,) int64.
        image_shape: (C, H, W) of the images.
        pipeline: Pipeline that replaces the store's crop and flip and takes padded images.
        rotation: Largest angle in degrees, in [0, 180]; 0 turns it off.
        cutout: Side in pixels of the blanked square, ≥ 0; 0 turns it off.
        fill: Color of the blanked square, (C,).
    """

    store: WindowStore | DecodedWindows
    labels: Tensor
    image_shape: tuple[int, int, int]
    pipeline: Albumentations | None
    rotation: float
    cutout: int
    fill: Tensor

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the batch's images (B, C, H, W) uint8 and labels (B,) int64.

        Raises:
            ValueError: If the pipeline returns images of another size.
        """
        images = self.pipeline(self.store.padded(batch.indices), batch) if self.pipeline else self.store.gather(batch)
        if images.shape[1:] != self.image_shape:
            raise UserError(
                f"The albumentations pipeline returns images of shape {tuple(images.shape[1:])}; it must return "
                f"{self.image_shape}: end it with a RandomCrop or Resize to that size."
            )
        if self.rotation:
            images = rotate(images, self.rotation, batch)
        if self.cutout:
            images = cutout(images, self.cutout, self.fill, batch)
        return images, self.labels[batch.indices.to(self.labels.device)]
