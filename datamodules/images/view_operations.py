"""Random crops and colors for a whole batch, every image with parameters of its own, on the images' device.

    crop         rows y … y + h and columns x … x + w, resized to S×S (or H×W): pixel i of the new image lies at
                 y + (i + ½) h / S − ½ of the old one, and the rows nearer than max(1, h / S) weigh in, the near ones
                 more (bilinear, antialiased); so a resize is one matrix for the rows and one for the columns, R X Cᵀ
    blur         the same with a Gaussian's weights in the rows, mirrored at the borders
    brightness   f x                     contrast     f x + (1 − f) m       m: mean luminance of the image
    saturation   f x + (1 − f) y         grayscale    y                     y: luminance of the pixel
    hue          turned by a share of the full circle in HSV, whose value and saturation stay: with M the largest of a
                 pixel's red, green and blue, c = M − the smallest, and the hue h in sixths of the circle, [0, 6):
                 red M − c [2 − |h − 3|], green M − c [|h − 2| − 1], blue M − c [|h − 4| − 1], [·] clamped to [0, 1]

What leaves [0, 1] is clamped. The results are those of torchvision's functions of the same names on float tensors.

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
    """Cuts height × width pixels out of each of the float images (B, C, H, W), resized to size × size, some mirrored.

    A size of 0 makes them H×W again.
    """
    rows = _resizing(top, height, images.shape[2], size or images.shape[2])
    columns = _resizing(left, width, images.shape[3], size or images.shape[3], mirrored)
    return rows[:, None] @ _along_rows(images, columns)


def _resizing(start: Tensor, length: Tensor, old: int, new: int, backwards: Tensor | None = None) -> Tensor:
    """Weights (B, new, old) that resize the pixels from `start` on, `length` many of `old`, to `new`.

    Where `backwards` is true, the new pixels are in reverse.
    """
    pixels = torch.arange(old, dtype=torch.float32, device=start.device)
    steps = torch.arange(new, device=start.device) + 0.5
    if backwards is not None:
        steps = torch.where(backwards[:, None], new - steps, steps)
    ratio = (length / new)[:, None]
    places = start[:, None] + steps * ratio - 0.5
    reach = ratio.clamp(min=1)[:, :, None]
    weights = (reach - (places[:, :, None] - pixels).abs_()).clamp_(min=0)
    inside = (pixels >= start[:, None]) & (pixels < (start + length)[:, None])  # none from beyond the crop
    weights *= inside[:, None]
    return weights.div_(weights.sum(2, keepdim=True))


def blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Weights the neighbors up to `radius` pixels away, less than H and W, by a Gaussian of each image's own σ."""
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    weights = (-0.5 * (offsets / sigma[:, None]) ** 2).softmax(1)  # (B, 2 radius + 1)
    rows, columns = (_spread(weights, radius, size) for size in images.shape[2:])
    return rows[:, None] @ _along_rows(images, columns)


def _spread(weights: Tensor, radius: int, size: int) -> Tensor:
    """The weights around each of `size` pixels, (B, size, size), those beyond a border mirrored at it."""
    reach = F.pad(torch.eye(size, device=weights.device), (0, 0, radius, radius))  # (size + 2 radius, size)
    for distance in range(1, radius + 1):
        reach[radius - distance, distance] = 1
        reach[-radius - 1 + distance, -1 - distance] = 1
    return torch.einsum("bo,ior->bir", weights, reach.unfold(0, len(weights[0]), 1).mT)


def _along_rows(images: Tensor, weights: Tensor) -> Tensor:
    """X Cᵀ for all channels in one product: (B, C, H, W), (B, S, W) to (B, C, H, S)."""
    return (images.flatten(1, 2) @ weights.mT).unflatten(1, images.shape[1:3])


def luminance(images: Tensor) -> Tensor:
    """How bright a pixel looks, (B, 1, H, W); gray images are that already."""
    if images.shape[1] != 3:
        return images
    red, green, blue = images.split(1, 1)
    return (red * _LUMINANCE[0]).add_(green, alpha=_LUMINANCE[1]).add_(blue, alpha=_LUMINANCE[2])


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies all pixels."""
    return (images * _each(factor)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Moves all pixels away from the image's mean luminance, or towards it with factors below 1."""
    mean = luminance(images).mean((1, 2, 3), keepdim=True)
    return (images * _each(factor)).add_((1 - _each(factor)) * mean).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Moves each pixel of images (B, 3, H, W) away from its luminance, or towards it with factors below 1."""
    return (images * _each(factor)).add_((1 - _each(factor)) * luminance(images)).clamp_(0, 1)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turns the hue of images (B, 3, H, W) by a share of the full circle, in [−½, ½]."""
    red, green, blue = images.unbind(1)  # (B, H, W) each
    largest = images.amax(1)
    chroma = largest - images.amin(1)
    # Weights of 0 and 1 choose, and floor gives the remainder: on CPUs torch.where and remainder_ are slow.
    is_red, is_green = ((largest - color).eq_(0) for color in (red, green))
    sixths = (red - green).add_(chroma, alpha=4)
    sixths = sixths.lerp_((blue - red).add_(chroma, alpha=2), is_green).lerp_(green - blue, is_red)
    sixths /= chroma.clamp(min=1e-12)  # a gray pixel has no hue, and needs none: 0 / 1e-12
    sixths += 6 * turn[:, None, None]
    sixths -= (sixths / 6).floor_().mul_(6)
    missing = ((sixths - 3).abs_().neg_().add_(2), (sixths - 2).abs_().sub_(1), (sixths - 4).abs_().sub_(1))
    return torch.stack([largest.addcmul(share.clamp_(0, 1), chroma, value=-1) for share in missing], 1)


def _each(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]
