"""Sinusoidal positional encoding, added to the word vectors of a Transformer.

    p_t = (sin ω₁t, cos ω₁t, sin ω₂t, cos ω₂t, …),    ω_i = 10000^(−2(i − 1)/D),    i = 1 … D/2

Attention alone does not depend on the order of the words. p_{t+k} is a rotation of p_t that depends only on k, so
relative positions are linear functions of the encodings.

Source: A. Vaswani et al., arXiv 1706.03762, section 3.5.

Shapes: T positions, D features.
"""

import torch
from torch import Tensor


def positional_encoding(positions: Tensor, width: int) -> Tensor:
    """Sinusoidal encodings p_t of positions t, (T,), for an even width: (T, width)."""
    frequencies = 10_000 ** (-torch.arange(0, width, 2, device=positions.device, dtype=positions.dtype) / width)
    angles = positions[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
