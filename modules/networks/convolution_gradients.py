"""Gradients of convolution and max pooling by hand.

**Convolution** (in the sense of deep learning: no flipped kernel) with k×k kernels, padding P and stride S. Let p_nij
be the patch of C·k·k values under output position (i, j) of sample n, as a vector. Each output is an inner product:

    y_nmij = w_m · p_nij + b_m

A convolution is therefore an affine layer that is applied to the patch of every position, with one weight matrix
W (M, C·k·k) for all positions. Its gradients are those of an affine layer, summed over the positions as well:

    dW = Σ_nij dy_nij p_nijᵀ        (M, C·k·k)
    db = Σ_nij dy_nij               (M,)
    dp_nij = Wᵀ dy_nij              (C·k·k,)

A pixel lies in several patches, so its gradient is the sum of the gradients of its copies: what `unfold` copies, `fold`
adds up.

**Max pooling** over k×k pixels: y is the largest of them, and changes as that one does. dy goes to the position of the
maximum and 0 to the others; of several equal ones the first is taken.

Sources: https://cs231n.github.io/convolutional-networks/#conv, "Implementation as matrix multiplication". These
functions are for reading; the tests compare them with automatic differentiation, which training uses.

Shapes: B samples in a batch, C input channels, M filters of k×k, H×W input positions, h×w output positions.
"""

from math import prod

import torch.nn.functional as F
from torch import Tensor


def convolution(x: Tensor, weight: Tensor, bias: Tensor, padding: int = 0, stride: int = 1) -> Tensor:
    """Returns maps y (B, M, h, w) of maps x (B, C, H, W), filters (M, C, k, k) and bias (M,)."""
    patches = F.unfold(x, weight.shape[2:], padding=padding, stride=stride)  # (B, C·k·k, h·w)
    height, width = ((side + 2 * padding - weight.shape[2]) // stride + 1 for side in x.shape[2:])
    y = weight.flatten(1) @ patches + bias[:, None]  # (B, M, h·w)
    return y.unflatten(2, (height, width))


def convolution_backward(
    dy: Tensor, x: Tensor, weight: Tensor, padding: int = 0, stride: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns dx (B, C, H, W), dW (M, C, k, k) and db (M,) for dy (B, M, h, w), maps x and filters."""
    patches = F.unfold(x, weight.shape[2:], padding=padding, stride=stride)  # (B, C·k·k, h·w)
    at_positions = dy.flatten(2)  # (B, M, h·w)
    dw = (at_positions @ patches.mT).sum(0).reshape(weight.shape)
    dpatches = weight.flatten(1).T @ at_positions  # (B, C·k·k, h·w)
    dx = F.fold(dpatches, x.shape[2:], weight.shape[2:], padding=padding, stride=stride)
    return dx, dw, dy.sum((0, 2, 3))


def max_pooling(x: Tensor, side: int = 2) -> Tensor:
    """Returns the largest value of each side×side square of maps x (B, C, H, W): (B, C, H/side, W/side)."""
    return _squares(x, side).amax(4)


def max_pooling_backward(dy: Tensor, x: Tensor, side: int = 2) -> Tensor:
    """Returns dx (B, C, H, W) for dy (B, C, H/side, W/side) and maps x; `side` divides H and W."""
    squares = _squares(x, side)
    is_largest = F.one_hot(squares.argmax(4), side * side).to(dy.dtype)  # (B, C, H/side, W/side, side²)
    dsquares = (is_largest * dy[..., None]).unflatten(4, (side, side))
    return dsquares.transpose(3, 4).reshape(x.shape)


def _squares(x: Tensor, side: int) -> Tensor:
    """Maps (B, C, H, W) as (B, C, H/side, W/side, side²), the last dimension the values of a square."""
    squares = x.unfold(2, side, side).unfold(3, side, side)
    return squares.reshape(*squares.shape[:4], prod(squares.shape[4:]))
