"""Color histograms: which values each channel of an image has, and which hues, regardless of position.

**Values of each channel**, c such as red, green or blue, or the brightness of a grayscale image:

    h_cb = fraction of the pixels whose value of channel c lies in bin b

**Hue**, regardless of saturation and brightness as well. With M the largest and δ the range of r, g, b in [0, 1], the
hue, a full turn being 1, is

    hue = ( (g − b)/δ if M = r,   2 + (b − r)/δ if M = g,   4 + (r − g)/δ if M = b ) / 6   mod 1,     0 if δ = 0

and 255 · hue is counted. Gray pixels count as red. The last bit of a hue on the edge of two bins decides where it is
counted, so everything is computed in float64 and in the order of the course's loop (`matplotlib.colors.rgb_to_hsv`,
then `np.histogram`), with the same counts.

Both have bins of equal width from 0 to 255, the last one closed.

Sources: https://cs231n.github.io/assignments2024/assignment1/ (color_histogram_hsv); M. J. Swain, D. H. Ballard, "Color
indexing", IJCV 1991, for histograms of channels, there of all three jointly.

Shapes: B images in a batch, C channels, H×W pixels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import UserError
from common.ranges import check_range


def color_histogram(images: Tensor, bins: int = 10) -> Tensor:
    """Computes the histogram of each channel of each image.

    Args:
        images: Images (B, C, H, W) uint8.
        bins: Number of bins of a channel, ≥ 1.

    Returns:
        (B, C · bins) float32, the bins of the first channel first; those of a channel sum to 1.

    Raises:
        ValueError: If images have another dtype or shape, or bins is below 1.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UserError(f"images are {images.dtype} of shape {tuple(images.shape)}; they must be uint8 (B, C, H, W).")
    edges = _edges(bins).to(images.device)
    values = images.flatten(2).long()  # (B, C, H·W)
    counts = torch.zeros(*values.shape[:2], 256, device=images.device)  # of each value, which a product adds up to bins
    counts.scatter_add_(2, values, torch.ones((), device=images.device).expand_as(values))
    bin_of_value = torch.bucketize(torch.arange(256, device=images.device), edges[1:-1], right=True)
    return (counts @ F.one_hot(bin_of_value, bins).float()).flatten(1) / values.shape[2]


def hue_histogram(images: Tensor, bins: int = 10) -> Tensor:
    """Computes the hue histogram of each image.

    Args:
        images: RGB images, (B, 3, H, W) uint8.
        bins: Number of bins, ≥ 1.

    Returns:
        (B, bins) float32, the fraction of the pixels in each bin; each row sums to 1.

    Raises:
        ValueError: If images have another dtype or shape, or bins is below 1.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UserError(f"images are {images.dtype} of shape {tuple(images.shape)}; they must be uint8 (B, 3, H, W).")
    if images.shape[1] != 3:
        raise UserError(f"images have {images.shape[1]} channel(s), but hue needs RGB; use color or hog.")
    edges = _edges(bins).to(images.device)
    indices = torch.bucketize(hue(images).mul_(255).flatten(1), edges[1:-1], right=True)  # (B, H·W)
    counts = torch.zeros(len(images), bins, device=images.device)
    counts.scatter_add_(1, indices, torch.ones((), device=images.device).expand_as(indices))
    return counts / indices.shape[1]


def hue(images: Tensor) -> Tensor:
    """Hue of each pixel: (B, 3, H, W) uint8 to (B, H, W) float64 in [0, 1)."""
    red, green, blue = (images.double() / 255).unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    span = largest - torch.minimum(torch.minimum(red, green), blue)
    turns = torch.where(
        blue == largest,
        4 + (red - green) / span,
        torch.where(green == largest, 2 + (blue - red) / span, (green - blue) / span),
    )
    return torch.where(span > 0, turns / 6, 0).remainder_(1)


def _edges(bins: int) -> Tensor:
    """Returns the edges of the bins, (bins + 1,) float64, of numpy, since torch's differ in the last digit."""
    check_range("bins", bins, bins >= 1, "at least 1")
    return torch.from_numpy(np.linspace(0, 255, bins + 1))
