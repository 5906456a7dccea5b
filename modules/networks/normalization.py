"""Normalization layers by name: batch, layer and group normalization are one formula over different sets of values.

    y = γ (x − μ) / √(σ² + ε) + β,    ε = 1e-5,    γ and β learned for each unit or channel

    over                         vectors (B, D)                images (B, C, H, W)
    batch   μ, σ² of one …       unit, over B                  channel, over B, H, W   ("spatial batch norm")
    layer   μ, σ² of one …       sample, over D                sample, over C, H, W
    group   μ, σ² of one …       —                             sample and group of channels, over C/G, H, W

σ² is the mean of (x − μ)². In training, batch normalization takes μ and σ² from the batch and keeps running averages,
r ← 0.9 r + 0.1 (batch's; its variance with B − 1 in the divisor), which it uses in evaluation. The others compute
the same in both and do not depend on the batch size.

Sources: S. Ioffe, C. Szegedy, arXiv 1502.03167; J. L. Ba et al., arXiv 1607.06450; Y. Wu, K. He, arXiv 1803.08494.
"""

from typing import Literal

from torch import nn

from common.errors import UserError

ONE_IMAGE = (
    "Batch normalization got a training batch of one image, whose variance over the batch is 0; use a batch_size of 2 "
    "or more, or choose another normalization."
)

VectorNorm = Literal["none", "batch", "layer"]
ImageNorm = Literal["none", "batch", "layer", "group"]


def vector_norm(kind: VectorNorm, width: int) -> nn.Module:
    """Returns a normalization layer for vectors (B, width).

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "batch":
        return nn.BatchNorm1d(width)
    if kind == "layer":
        return nn.LayerNorm(width)
    raise UserError(f"normalization is {kind!r}; it must be none, batch or layer.")


def image_norm(kind: ImageNorm, channels: int, groups: int) -> nn.Module:
    """Returns a normalization layer for feature maps (B, channels, H, W); only group normalization uses `groups`.

    Raises:
        ValueError: If the kind is unknown or the number of groups does not divide the channels.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "layer":
        return nn.GroupNorm(1, channels)  # one group: γ and β per channel, as in the others
    if kind == "group":
        if groups < 1 or channels % groups:
            raise UserError(
                f"groups is {groups}, which does not divide a stage's {channels} channels; it must be one of "
                f"{', '.join(str(n) for n in range(1, channels + 1) if channels % n == 0)}."
            )
        return nn.GroupNorm(groups, channels)
    raise UserError(f"normalization is {kind!r}; it must be none, batch, layer or group.")
