"""The places of the k smallest numbers of each row, equal ones in order; faster on long rows than `torch.topk`.

Shapes: B rows, N numbers in each.
"""

import torch
from torch import Tensor

_GROUP = 25  # keys of which only the smallest is compared at first


def smallest(keys: Tensor, k: int) -> Tensor:
    """Places of the k smallest keys of each row, in ascending order: (B, N) to (B, k).

    Where equal keys compete for the last places, those at the lowest places win. `topk` picks any of them, so one key
    more is looked for: only rows in which it equals the k-th are looked through again.
    """
    if k == keys.shape[1]:
        return torch.arange(k, device=keys.device).repeat(len(keys), 1)
    values, places = _topk(keys, k + 1)
    last = values[:, k - 1 : k]
    sure, places = values[:, :k] < last, places[:, :k]
    for row in (last == values[:, k:]).any(1).nonzero().flatten().tolist():
        kept = places[row, sure[row]]
        equal = (keys[row] == last[row]).nonzero().flatten()
        places[row] = torch.cat([kept, equal[: k - len(kept)]])
    return places.sort(1).values


def _topk(keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of each row (B, N), ascending, and their places; faster than `topk` on long rows.

    With a row cut into groups, all of the k smallest lie in the k groups that have the smallest minima. A group is
    every G-th key, so that the minima are taken over whole vectors.
    """
    groups = keys.shape[1] // _GROUP
    if k > groups // 4:
        return keys.topk(k, largest=False)
    grouped = keys[:, : groups * _GROUP].unflatten(1, (_GROUP, groups))  # (B, _GROUP, G)
    nearest = grouped.amin(1).topk(k, largest=False, sorted=False).indices[:, None].expand(-1, _GROUP, -1)
    offsets = torch.arange(_GROUP, device=keys.device)[:, None] * groups
    rest = torch.arange(groups * _GROUP, keys.shape[1], device=keys.device).expand(len(keys), -1)
    candidates = torch.cat([(nearest + offsets).flatten(1), rest], 1)
    values, chosen = keys.gather(1, candidates).topk(k, largest=False)
    return values, candidates.gather(1, chosen)
