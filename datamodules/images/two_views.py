"""Two random views of every image of a batch, for contrastive learning.

    crop         a fraction of the area uniform in [min_area, 1], an aspect ratio log-uniform in [¾, 4/3], at a random
                 position, resized to `size` or the image's size; the first of ten draws that fits, else the whole image
    mirror       left to right, with probability ½
    jitter       with its probability: brightness, contrast and saturation by factors uniform in 1 ± 0.8 s, hue by a
                 turn uniform in ± 0.2 s, with strength s; in a random order for each step's batch
    grayscale    with its probability
    blur         with its probability, σ uniform in [0.1, 2] pixels, over a tenth of the view's height

Every image and view has its own parameters. They are drawn for the step's global batch, so the views do not depend on
the number of processes or on a resume. Images with one channel get no color operations. `view_operations.py` defines
each operation.

A crop enlarged to the image's size shows objects larger than the images of an evaluation do. Views of size √(mean area)
times the image's size show them at the same size, and are faster: H. Touvron et al., arXiv 1906.06423.

Source: T. Chen et al., arXiv 2002.05709, appendix A, and B.9 for CIFAR-10 (s = ½, no blur).

    python -m pipelines.train fit --config simclr --data.two_views.jitter 0.8 --data.two_views.blur 0.5

Shapes: N images of the training split, B in the batch, C channels, H×W pixels, P parameters of a view.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from common.ranges import check_range
from datamodules.images.view_operations import blur, brightness, contrast, hue, luminance, resized_crop, saturation
from datamodules.loader import Batch

_TRIES = 10
_CHUNK = 128  # images processed at a time, so that they stay in a CPU's cache
_COLOR_OPERATIONS = (brightness, contrast, saturation, hue)


@dataclass(frozen=True)
class TwoViews:
    """Settings of the random views.

    Args:
        min_area: Smallest fraction of the image's area that a view shows, in (0, 1].
        size: Side of a view in pixels, ≥ 0; 0 takes the image's size.
        flip: Whether to mirror half of the views; false for digits and letters.
        jitter: Strength s of the color jitter, in [0, 1].
        jitter_probability: Fraction of the views with color jitter, in [0, 1].
        grayscale: Fraction of the views converted to grayscale, in [0, 1].
        blur: Fraction of the views that are blurred, in [0, 1].
    """

    min_area: float = 0.08
    size: int = 0
    flip: bool = True
    jitter: float = 0.5
    jitter_probability: float = 0.8
    grayscale: float = 0.2
    blur: float = 0.0

    def __post_init__(self) -> None:
        check_range("min_area", self.min_area, 0 < self.min_area <= 1, "in (0, 1]")
        check_range("size", self.size, self.size >= 0, "at least 1, or 0 for the images' size")
        for name in ("jitter", "jitter_probability", "grayscale", "blur"):
            check_range(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "in [0, 1]")

    def draw(self, batch: Batch, height: int, width: int) -> Tensor:
        """Draws one view's parameters for images of H×W pixels: (P, B), in the order in which `apply` takes them."""
        area = height * width * (self.min_area + (1 - self.min_area) * self._tries(batch))  # (tries, B)
        ratio = ((2 * self._tries(batch) - 1) * log(4 / 3)).exp()
        rows, columns = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
        fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
        first = fits.int().argmax(0, keepdim=True)
        none = ~fits.any(0)
        rows = rows.gather(0, first)[0].masked_fill(none, height)
        columns = columns.gather(0, first)[0].masked_fill(none, width)
        top, left = ((batch.rand() * (gap + 1)).floor() for gap in (height - rows, width - columns))
        mirrored = (batch.rand() < 0.5) & self.flip
        strength = self.jitter * (batch.rand() < self.jitter_probability)
        factors = [1 + 0.8 * strength * (2 * batch.rand() - 1) for _ in range(3)]
        turn = 0.2 * strength * (2 * batch.rand() - 1)
        gray, blurred, sigma = batch.rand() < self.grayscale, batch.rand() < self.blur, 0.1 + 1.9 * batch.rand()
        return torch.stack([top, left, rows, columns, mirrored, *factors, turn, gray, blurred, sigma])

    def apply(self, images: Tensor, parameters: Tensor, order: list[int]) -> Tensor:
        """Returns one view of float images (B, C, H, W) in [0, 1], with the color operations in `order`, (4,)."""
        top, left, rows, columns, mirrored, *factors, gray, blurred, sigma = parameters.unbind()
        views = resized_crop(images, top, left, rows, columns, mirrored.bool(), self.size)
        colored = images.shape[1] == 3
        if self.jitter:
            for i in order if colored else [i for i in order if i < 2]:  # brightness and contrast need no colors
                views = _COLOR_OPERATIONS[i](views, factors[i])
        if self.grayscale and colored:
            views = views.lerp(luminance(views), gray[:, None, None, None])  # weights 0 and 1: faster than torch.where
        if self.blur:
            smooth = blur(views, sigma, max(1, views.shape[2] // 20))
            views = views.lerp(smooth, blurred[:, None, None, None])
        return views

    def _tries(self, batch: Batch) -> Tensor:
        return torch.stack([batch.rand() for _ in range(_TRIES)])


@dataclass
class PairsOfViews:
    """Fetches two views of each image of a batch.

    Args:
        images: Training images, (N, C, H, W) uint8.
        labels: Class of each image, (N,) int64.
        settings: Settings of the views.
    """

    images: Tensor
    labels: Tensor
    settings: TwoViews

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns views (B, 2, C, H, W) uint8 on the images' device, and labels (B,) int64."""
        indices = batch.indices.to(self.images.device, non_blocking=True)
        images = self.images.index_select(0, indices)
        pairs = torch.stack([self._view(images, batch) for _ in range(2)], 1)
        return pairs, self.labels.index_select(0, indices)

    def _view(self, images: Tensor, batch: Batch) -> Tensor:
        parameters = self.settings.draw(batch, *images.shape[2:]).to(images.device, non_blocking=True)
        order = torch.randperm(len(_COLOR_OPERATIONS), generator=batch.generator).tolist()
        size = _CHUNK if images.device.type == "cpu" else len(images)
        views = [
            self.settings.apply(chunk.float() / 255, columns, order).mul_(255).round_().to(torch.uint8)
            for chunk, columns in zip(images.split(size), parameters.split(size, 1), strict=True)
        ]
        return torch.cat(views)
