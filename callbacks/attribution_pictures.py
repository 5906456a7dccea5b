"""Pictures of what methods of interpretation find: heat maps, changes and patches beside the images they are about.

Shapes: B images, C channels (1 or 3), H×W pixels, M channels of a layer, h×w positions of its maps.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks.pictures import image_grid

_BRIGHTEST = 0.99  # quantile of a map shown as the brightest color: a few pixels stand out so far that all others
_HEAT_SHARE = 0.6  # would be dark


def scaled(maps: Tensor) -> Tensor:
    """Maps (B, H, W), 0 or more, to [0, 1], each by itself; what is brighter than 99 % of a map is white."""
    top = maps.flatten(1).quantile(_BRIGHTEST, dim=1).clamp(min=torch.finfo(maps.dtype).tiny)
    return (maps / top[:, None, None]).clamp(0, 1)


def heat(maps: Tensor) -> Tensor:
    """Maps (B, H, W) as colors from black through red to bright yellow, each scaled by itself: (B, 3, H, W)."""
    from matplotlib import colormaps

    colors = colormaps["inferno"](scaled(maps.detach().float().cpu()).numpy())[..., :3]
    return torch.from_numpy(colors).permute(0, 3, 1, 2).float()


def overlay(images: Tensor, maps: Tensor) -> Tensor:
    """Heat over images in gray: (B, C, H, W) in [0, 1] and maps (B, H, W) to (B, 3, H, W)."""
    gray = images.detach().float().cpu().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return (1 - _HEAT_SHARE) * gray + _HEAT_SHARE * heat(maps)


def saliency_picture(
    images: Tensor, maps: Tensor, titles: Sequence[str], method: str, columns: int = 1, side: float = 1.35
) -> np.ndarray:
    """Each image with its map and both together.

    Args:
        images: (B, C, H, W) in [0, 1].
        maps: (B, H, W), 0 or more.
        titles: B texts above the images.
        method: the text above the maps.
        columns: images, each with its map and overlay, in a row.
        side: of an image, in inches of 120 pixels.

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
    """Each image before and after it was changed, and the change magnified around mid-gray.

    Args:
        before: (B, C, H, W) in [0, 1].
        after: the same, changed.
        titles: B pairs of texts, above the one and the other.
        columns: images, each with its changed one and the change, in a row.
        side: of an image, in inches of 120 pixels.

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
    """An image (C, H, W) in [0, 1] and, in a row for each layer, its maps (M, h, w) with the largest mean.

    Black is 0 or less, white the largest value of a map.
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
    """Patches of any size, (C, h, w) in [0, 1], in rows; a title above each."""
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
    """A patch (3, h, w) in the middle of a white square."""
    height, width = patch.shape[1:]
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(patch, (left, size - width - left, top, size - height - top), value=1.0)
