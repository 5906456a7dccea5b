"""Crops, blur and color operations for a whole batch, with parameters for every image, on the images' device.

    crop         rows y … y + h and columns x … x + w, resized to S×S (or H×W): pixel i of the new image lies at
                 y + (i + ½) h / S − ½ of the old one, with triangular weights on the rows within max(1, h / S) of it
                 (bilinear, antialiased); so a resize is one matrix for the rows and one for the columns, R X Cᵀ
    blur         the same with Gaussian weights, mirrored at the borders
    brightness   f x                     contrast     f x + (1 − f) m       m: mean luminance of the image
    saturation   f x + (1 − f) y         grayscale    y                     y: luminance of the pixel
    hue          rotated by a fraction of the full circle in HSV at constant value and saturation: with M the largest of
                 a pixel's red, green and blue, c = M − the smallest, and the hue h in sixths of the circle, [0, 6):
                 red M − c [2 − |h − 3|], green M − c [|h − 2| − 1], blue M − c [|h − 4| − 1], [·] clamped to [0, 1]

Results are clamped to [0, 1], and equal those of torchvision's functions of the same names on float tensors.

Sources: T. Chen et al., arXiv 2002.05709, appendix A; ITU-R BT.601 for the luminance 0.299 R + 0.587 G + 0.114 B;
A. R. Smith, "Color gamut transform pairs", SIGGRAPH 1978 for HSV.

Shapes: B images, C channels, H×W pixels, S pixels of a new side; every parameter is (B,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMINANCE = (0.2989, 0.587, 0.114)  # with torchvision's four digits


def resized_crop(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    mirrored: Tensor,
    size: int = 0,
) -> Tensor:
    """Crops height × width pixels of each float image (B, C, H, W), resized to size × size, some of them mirrored.

    A size of 0 resizes them to H×W.
    """
    rows = _resizing(top, height, images.shape[2], size or images.shape[2])
    columns = _resizing(left, width, images.shape[3], size or images.shape[3], mirrored)
    return rows[:, None] @ _along_rows(images, columns)


def _resizing(start: Tensor, length: Tensor, old: int, new: int, backwards: Tensor | None = None) -> Tensor:
    """Weights (B, new, old) that resize `length` of `old` pixels, from `start` on, to `new` pixels.

    Where `backwards` is true, the new pixels are in reverse order.
    """
    pixels = torch.arange(old, dtype=torch.float32, device=start.device)
    steps = torch.arange(new, device=start.device) + 0.5
    if backwards is not None:
        steps = torch.where(backwards[:, None], new - steps, steps)
    ratio = (length / new)[:, None]
    positions = start[:, None] + steps * ratio - 0.5
    reach = ratio.clamp(min=1)[:, :, None]
    weights = (reach - (positions[:, :, None] - pixels).abs_()).clamp_(min=0)
    inside = (pixels >= start[:, None]) & (pixels < (start + length)[:, None])  # pixels outside the crop weigh 0
    weights *= inside[:, None]
    return weights.div_(weights.sum(2, keepdim=True))


def blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blurs images (B, C, H, W) by a Gaussian with each image's σ, cut off at `radius` pixels, less than H and W."""
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    weights = (-0.5 * (offsets / sigma[:, None]) ** 2).softmax(1)  # (B, 2 radius + 1)
    rows, columns = (_spread(weights, radius, size) for size in images.shape[2:])
    return rows[:, None] @ _along_rows(images, columns)


def _spread(weights: Tensor, radius: int, size: int) -> Tensor:
    """Matrices (B, size, size) that apply the weights around each pixel, mirrored at the borders."""
    reach = F.pad(torch.eye(size, device=weights.device), (0, 0, radius, radius))  # (size + 2 radius, size)
    for distance in range(1, radius + 1):
        reach[radius - distance, distance] = 1
        reach[-radius - 1 + distance, -1 - distance] = 1
    return torch.einsum("bo,ior->bir", weights, reach.unfold(0, len(weights[0]), 1).mT)


def _along_rows(images: Tensor, weights: Tensor) -> Tensor:
    """X Cᵀ for all channels in one product: (B, C, H, W), (B, S, W) to (B, C, H, S)."""
    return (images.flatten(1, 2) @ weights.mT).unflatten(1, images.shape[1:3])


def luminance(images: Tensor) -> Tensor:
    """Luminance of each pixel, (B, 1, H, W); grayscale images are returned unchanged."""
    if images.shape[1] != 3:
        return images
    red, green, blue = images.split(1, 1)
    return (red * _LUMINANCE[0]).add_(green, alpha=_LUMINANCE[1]).add_(blue, alpha=_LUMINANCE[2])


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies all pixels by each image's factor."""
    return (images * _each(factor)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scales all pixels' differences from the image's mean luminance by each image's factor."""
    mean = luminance(images).mean((1, 2, 3), keepdim=True)
    return (images * _each(factor)).add_((1 - _each(factor)) * mean).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Scales each pixel's difference from its luminance in images (B, 3, H, W) by each image's factor."""
    return (images * _each(factor)).add_((1 - _each(factor)) * luminance(images)).clamp_(0, 1)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Rotates the hue of images (B, 3, H, W) by a fraction of the full circle, in [−½, ½]."""
    red, green, blue = images.unbind(1)  # (B, H, W) each
    largest = images.amax(1)
    chroma = largest - images.amin(1)
    # lerp_ with weights 0 and 1 selects, and floor_ gives the remainder: on CPUs torch.where and remainder_ are slow.
    is_red, is_green = ((largest - color).eq_(0) for color in (red, green))
    sixths = (red - green).add_(chroma, alpha=4)
    sixths = sixths.lerp_((blue - red).add_(chroma, alpha=2), is_green).lerp_(green - blue, is_red)
    sixths /= chroma.clamp(min=1e-12)  # the hue of a gray pixel is undefined and has no effect: 0 / 1e-12
    sixths += 6 * turn[:, None, None]
    sixths -= (sixths / 6).floor_().mul_(6)
    missing = ((sixths - 3).abs_().neg_().add_(2), (sixths - 2).abs_().sub_(1), (sixths - 4).abs_().sub_(1))
    return torch.stack([largest.addcmul(share.clamp_(0, 1), chroma, value=-1) for share in missing], 1)


def _each(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]
