"""Pictures for interpretation: heat maps, changes and patches beside the images they belong to.

Shapes: B images, C channels (1 or 3), H×W pixels, M channels of a layer, h×w positions of its maps.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks.pictures import image_grid

_BRIGHTEST = 0.99  # quantile of a map shown as the brightest color; scaled to the maximum, most pixels would be dark
_HEAT_SHARE = 0.6  # opacity of the heat map over the image


def scaled(maps: Tensor) -> Tensor:
    """Scales each map (B, H, W), ≥ 0, to [0, 1]; its brightest 1 % become 1."""
    top = maps.flatten(1).quantile(_BRIGHTEST, dim=1).clamp(min=torch.finfo(maps.dtype).tiny)
    return (maps / top[:, None, None]).clamp(0, 1)


def heat(maps: Tensor) -> Tensor:
    """Returns each map (B, H, W), scaled, in colors from black through red to yellow, (B, 3, H, W)."""
    from matplotlib import colormaps

    colors = colormaps["inferno"](scaled(maps.detach().float().cpu()).numpy())[..., :3]
    return torch.from_numpy(colors).permute(0, 3, 1, 2).float()


def overlay(images: Tensor, maps: Tensor) -> Tensor:
    """Returns heat maps (B, H, W) over the gray images (B, C, H, W) in [0, 1], as (B, 3, H, W)."""
    gray = images.detach().float().cpu().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return (1 - _HEAT_SHARE) * gray + _HEAT_SHARE * heat(maps)


def saliency_picture(
    images: Tensor, maps: Tensor, titles: Sequence[str], method: str, columns: int = 1, side: float = 1.35
) -> np.ndarray:
    """Draws each image, its map and the map over the image.

    Args:
        images: Images (B, C, H, W) in [0, 1].
        maps: Maps (B, H, W), ≥ 0.
        titles: Titles of the B images.
        method: Title of the maps.
        columns: Images in a row, each with its map and overlay.
        side: Side of an image in inches of 120 pixels.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    color = images.detach().float().cpu().expand(-1, 3, -1, -1)
    triples = torch.stack([color, heat(maps), overlay(images, maps)], 1).flatten(0, 1)  # (3B, 3, H, W)
    words = [text for title in titles for text in (title, method, "")]
    return image_grid(triples, words, 3 * columns, side=side)


def fooling_picture(
    before: Tensor, after: Tensor, titles: Sequence[tuple[str, str]], columns: int = 1, side: float = 1.35
) -> np.ndarray:
    """Draws each image before and after a change, and the change magnified around mid-gray.

    Args:
        before: Images (B, C, H, W) in [0, 1].
        after: Changed images (B, C, H, W) in [0, 1].
        titles: Pairs of titles of the B images before and after.
        columns: Images in a row, each with its changed image and the change.
        side: Side of an image in inches of 120 pixels.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    before, after = (images.detach().float().cpu().expand(-1, 3, -1, -1) for images in (before, after))
    change = after - before
    factors = (0.5 / change.abs().amax((1, 2, 3)).clamp(min=1 / 255)).floor().clamp(min=1)  # (B,)
    magnified = 0.5 + factors[:, None, None, None] * change
    triples = torch.stack([before, after, magnified], 1).flatten(0, 1)
    words = [
        text
        for (one, other), factor in zip(titles, factors.tolist(), strict=True)
        for text in (one, other, f"change × {factor:.0f}")
    ]
    return image_grid(triples, words, 3 * columns, side=side)


def layers_picture(image: Tensor, maps: Mapping[str, Tensor], count: int, side: float = 1.35) -> np.ndarray:
    """Draws an image (C, H, W) in [0, 1] and, in a row for each layer, its maps (M, h, w) with the largest mean.

    Black is 0 or less, white the largest value of each map.
    """
    shown = [image.detach().float().cpu().expand(3, -1, -1)]
    titles = ["image"]
    for name, channels in maps.items():
        channels = channels.detach().float().cpu().clamp(min=0)
        strongest = channels.mean((1, 2)).topk(min(count, len(channels))).indices
        if len(shown) > 1:
            shown.append(torch.ones_like(shown[0]))  # below the image stays white
            titles.append("")
        for i in strongest.tolist():
            white = channels[i].max().clamp(min=1e-12)
            large = F.interpolate((channels[i] / white)[None, None], size=image.shape[1:], mode="nearest")
            shown.append(large[0].expand(3, -1, -1))
            titles.append(f"{name} #{i}")
        missing = count - len(strongest)
        shown += [torch.ones_like(shown[0])] * missing
        titles += [""] * missing
    return image_grid(torch.stack(shown), titles, count + 1, side=side)


def patches_picture(rows: Sequence[Sequence[Tensor]], titles: Sequence[Sequence[str]], side: float = 1.0) -> np.ndarray:
    """Draws rows of patches (C, h, w) of any size, in [0, 1], each with a title."""
    columns = max(map(len, rows))
    size = max(max(patch.shape[1:]) for row in rows for patch in row)
    shown, words = [], []
    for row, texts in zip(rows, titles, strict=True):
        for patch, text in zip(row, texts, strict=True):
            shown.append(_letterboxed(patch.detach().float().cpu().expand(3, -1, -1), size))
            words.append(text)
        missing = columns - len(row)
        shown += [torch.ones(3, size, size)] * missing
        words += [""] * missing
    return image_grid(torch.stack(shown), words, columns, side=side)


def _letterboxed(patch: Tensor, size: int) -> Tensor:
    """Centers a patch (3, h, w) in a white square."""
    height, width = patch.shape[1:]
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(patch, (left, size - width - left, top, size - height - top), value=1.0)
