"""Top-k of long rows: the k smallest values, equal ones by index, faster than `torch.topk`.

Shapes: B rows, N values in each.
"""

import torch
from torch import Tensor

_GROUP_SIZE = 25  # values that are represented by their minimum at first


def stable_topk(values: Tensor, k: int) -> Tensor:
    """Returns the indices of the k smallest values of each row (B, N), in ascending order of index: (B, k).

    Among equal values the lowest indices are taken. `torch.topk` takes any of them, so k + 1 values are found first:
    only rows whose (k + 1)-th value equals the k-th are searched again.
    """
    if k == values.shape[1]:
        return torch.arange(k, device=values.device).repeat(len(values), 1)
    lowest, indices = grouped_topk(values, k + 1)
    kth = lowest[:, k - 1 : k]
    below, indices = lowest[:, :k] < kth, indices[:, :k]
    for row in (kth == lowest[:, k:]).any(1).nonzero().flatten().tolist():
        kept = indices[row, below[row]]
        equal = (values[row] == kth[row]).nonzero().flatten()
        indices[row] = torch.cat([kept, equal[: k - len(kept)]])
    return indices.sort(1).values


def grouped_topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k smallest values of each row (B, N), ascending, and their indices; faster than `topk` on long rows.

    With a row cut into groups, all of the k smallest lie in the k groups with the smallest minima. With G groups, a
    group holds every G-th value, so that the minima are computed by operations on whole vectors.
    """
    groups = values.shape[1] // _GROUP_SIZE
    if k > groups // 4:
        return values.topk(k, largest=False)
    grouped = values[:, : groups * _GROUP_SIZE].unflatten(1, (_GROUP_SIZE, groups))  # (B, _GROUP_SIZE, G)
    nearest = grouped.amin(1).topk(k, largest=False, sorted=False).indices[:, None].expand(-1, _GROUP_SIZE, -1)
    offsets = torch.arange(_GROUP_SIZE, device=values.device)[:, None] * groups
    ungrouped = torch.arange(groups * _GROUP_SIZE, values.shape[1], device=values.device).expand(len(values), -1)
    candidates = torch.cat([(nearest + offsets).flatten(1), ungrouped], 1)
    lowest, chosen = values.gather(1, candidates).topk(k, largest=False)
    return lowest, candidates.gather(1, chosen)
