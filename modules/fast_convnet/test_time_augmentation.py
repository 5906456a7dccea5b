"""Test-time augmentation: the logits of an image are a weighted mean over views of it that mean the same.

    mirror             ½ the image, ½ its mirror image
    mirror_and_shift   ½ mirror, ¼ the same one pixel up and left, ¼ one pixel down and right (borders reflected)

Each view is wrong in its own way, and the mean is wrong less often. It costs two or six passes instead of one.

Source: K. Jordan, arXiv 2404.00498, section 3.5.

Shapes: B images, C channels, H×W pixels, K classes.
"""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Views = Literal["one", "mirror", "mirror_and_shift"]


def mean_over_views(logits_of: Callable[[Tensor], Tensor], images: Tensor, views: Views) -> Tensor:
    """Weighted mean of the logits of an image's views: images (B, C, H, W) to (B, K)."""
    if views == "one":
        return logits_of(images)

    def mirrored(shifted: Tensor) -> Tensor:
        return (logits_of(shifted) + logits_of(shifted.flip(-1))) / 2

    middle = mirrored(images)
    if views == "mirror":
        return middle
    height, width = images.shape[2:]
    padded = F.pad(images, (1,) * 4, mode="reflect")  # (B, C, H + 2, W + 2)
    corners = (padded[:, :, :height, :width], padded[:, :, 2:, 2:])
    return middle / 2 + (mirrored(corners[0]) + mirrored(corners[1])) / 4
