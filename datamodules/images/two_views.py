"""Two random views of every image of a batch, for contrastive learning: both show the same thing in different ways.

    crop         a share of the area uniform in [min_area, 1], sides in a ratio log-uniform in [¾, 4/3], anywhere in the
                 image, resized to `size` or the image's own; of ten draws the first that fits, or else the whole image
    mirror       left to right, with probability ½
    jitter       with its probability: brightness, contrast and saturation by factors uniform in 1 ± 0.8 s, hue by a
                 turn uniform in ± 0.2 s, s the strength; in an order that is drawn anew for each step's batch
    grayscale    with its probability
    blur         with its probability, σ uniform in [0.1, 2] pixels, over a tenth of the view's height

Every image and view has parameters of its own. They are drawn for the step's global batch, so any number of processes
sees the same views, and a resumed run those that it would have seen. Images with one channel are spared the operations
on colors. How each works: `view_operations.py`.

Enlarged to the image's size, a crop shows things larger than they are in the images that are judged later. Views of
size √(mean area) times the image's show them as large as there, and cost less: H. Touvron et al., arXiv 1906.06423.

Source: T. Chen et al., arXiv 2002.05709, appendix A, and B.9 for CIFAR-10 (s = ½, no blur).

    python -m pipelines.train fit --config simclr --data.two_views.jitter 0.8 --data.two_views.blur 0.5

Shapes: N images of the training split, B in the batch, C channels, H×W pixels, P parameters of a view.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from common.errors import UserError
from datamodules.images.view_operations import blur, brightness, contrast, hue, luminance, resized_crop, saturation
from datamodules.loader import Batch

_TRIES = 10
_CHUNK = 128  # images handled at a time, so that they stay in a processor's cache
_COLOR_OPERATIONS = (brightness, contrast, saturation, hue)


@dataclass(frozen=True)
class TwoViews:
    """How views are drawn.

    Args:
        min_area: smallest share of the image's area that a view shows, in (0, 1].
        size: pixels along each side of a view; 0 gives it the image's size.
        flip: mirror half of the views; false for digits and letters.
        jitter: strength s of the changes of color, 0 (none) to 1.
        jitter_probability: share of the views whose colors are changed, in [0, 1].
        grayscale: share of the views that lose their colors, in [0, 1].
        blur: share of the views that are blurred, in [0, 1].

    Raises:
        ValueError: a value out of the range given above.
    """

    min_area: float = 0.08
    size: int = 0
    flip: bool = True
    jitter: float = 0.5
    jitter_probability: float = 0.8
    grayscale: float = 0.2
    blur: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1:
            raise UserError(f"min_area is {self.min_area}; give a share of the area above 0, up to 1.")
        if self.size < 0:
            raise UserError(f"size is {self.size}; give 1 pixel or more, or 0 for the images' own size.")
        for name in ("jitter", "jitter_probability", "grayscale", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; give 0 to 1.")

    def draw(self, batch: Batch, height: int, width: int) -> Tensor:
        """One view's parameters for images of H×W pixels: (P, B), in the order in which `apply` takes them."""
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
        """One view of float images (B, C, H, W) in [0, 1], colors changed in `order`, a permutation of 0 to 3."""
        top, left, rows, columns, mirrored, *factors, gray, blurred, sigma = parameters.unbind()
        views = resized_crop(images, top, left, rows, columns, mirrored.bool(), self.size)
        colored = images.shape[1] == 3
        if self.jitter:
            for place in order if colored else [place for place in order if place < 2]:
                views = _COLOR_OPERATIONS[place](views, factors[place])
        if self.grayscale and colored:
            views = views.lerp(luminance(views), gray[:, None, None, None])  # by 0 or 1: as torch.where, but faster
        if self.blur:
            smooth = blur(views, sigma, max(1, views.shape[2] // 20))
            views = views.lerp(smooth, blurred[:, None, None, None])
        return views

    def _tries(self, batch: Batch) -> Tensor:
        return torch.stack([batch.rand() for _ in range(_TRIES)])


@dataclass
class PairsOfViews:
    """Fetches two views of the batch's images.

    Args:
        images: the training images (N, C, H, W) uint8.
        labels: their classes, (N,) int64.
        settings: how views are drawn.
    """

    images: Tensor
    labels: Tensor
    settings: TwoViews

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Views (B, 2, C, H, W) uint8 on the images' device, and labels (B,) int64."""
        chosen = batch.indices.to(self.images.device, non_blocking=True)
        images = self.images.index_select(0, chosen)
        pairs = torch.stack([self._view(images, batch) for _ in range(2)], 1)
        return pairs, self.labels.index_select(0, chosen)

    def _view(self, images: Tensor, batch: Batch) -> Tensor:
        parameters = self.settings.draw(batch, *images.shape[2:]).to(images.device, non_blocking=True)
        order = torch.randperm(len(_COLOR_OPERATIONS), generator=batch.generator).tolist()
        size = _CHUNK if images.device.type == "cpu" else len(images)
        views = [
            self.settings.apply(part.float() / 255, own, order).mul_(255).round_().to(torch.uint8)
            for part, own in zip(images.split(size), parameters.split(size, 1), strict=True)
        ]
        return torch.cat(views)
