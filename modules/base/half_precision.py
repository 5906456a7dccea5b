"""Losses and scores of half-precision tensors are computed in float32.

float16 overflows above 65,504, the square of 256, and bfloat16 has 8 significant bits, too few for a sum over a batch.
"""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Returns a tensor of float16 or bfloat16 as float32, and one of float32 or float64 itself."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
