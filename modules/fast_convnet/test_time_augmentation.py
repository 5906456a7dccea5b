"""Test-time augmentation: the logits of an image are a weighted mean over views that do not change its class.

    mirror             ½ the image, ½ its mirror image
    mirror_and_shift   ½ mirror, ¼ mirror shifted by one pixel up and left, ¼ down and right (borders reflected)

The errors on different views partly cancel in the mean. It takes two or six forward passes instead of one.

Source: K. Jordan, arXiv 2404.00498, section 3.5.

Shapes: B images, C channels, H×W pixels, K classes.
"""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

TestTimeAugmentation = Literal["one", "mirror", "mirror_and_shift"]


def augmented_logits(
    model: Callable[[Tensor], Tensor], images: Tensor, test_time_augmentation: TestTimeAugmentation
) -> Tensor:
    """Weighted mean of a model's logits over the views of each image: images (B, C, H, W) to (B, K)."""
    if test_time_augmentation == "one":
        return model(images)

    def mirrored(shifted: Tensor) -> Tensor:
        return (model(shifted) + model(shifted.flip(-1))) / 2

    centered = mirrored(images)
    if test_time_augmentation == "mirror":
        return centered
    height, width = images.shape[2:]
    padded = F.pad(images, (1,) * 4, mode="reflect")  # (B, C, H + 2, W + 2)
    corners = (padded[:, :, :height, :width], padded[:, :, 2:, 2:])
    return centered / 2 + (mirrored(corners[0]) + mirrored(corners[1])) / 4
