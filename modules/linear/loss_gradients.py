"""Gradients of the hinge loss and of the cross-entropy by hand, as the course derives them.

Both losses are means over images of a loss L of the scores s = W x + b. The chain rule gives the gradients of a linear
classifier from ∂L/∂s alone:

    ∂L/∂W_jd = Σ_n ∂L/∂s_nj · x_nd            dW = dsᵀ X        (K, B)(B, D) → (K, D), the shape of W
    ∂L/∂b_j  = Σ_n ∂L/∂s_nj                   db = Σ_n ds_n     (K,)

The penalty ½ λ ‖W‖² adds λ W to dW.

**Hinge loss** of one image, with true class y and margin Δ:

    L = Σ_{j≠y} max(0, s_j − s_y + Δ)

s_j with j ≠ y occurs in one term, s_y in all of them with a minus sign. With the indicator 1[·] of a violated margin:

    ∂L/∂s_j = 1[s_j − s_y + Δ > 0]  for j ≠ y,        ∂L/∂s_y = − Σ_{j≠y} 1[s_j − s_y + Δ > 0]

The gradient of the true class is minus the number of violated margins, so each row of ds sums to 0.

**Cross-entropy** of one image, with p = softmax(s):

    L = −log p_y = −s_y + log Σ_k exp(s_k)
    ∂L/∂s_j = −1[j = y] + exp(s_j) / Σ_k exp(s_k) = p_j − 1[j = y]

Sources: https://cs231n.github.io/optimization-1/#analytic for the hinge loss;
https://cs231n.github.io/neural-networks-case-study/#grad for the cross-entropy. These functions are for reading; the
tests compare them with automatic differentiation, which training uses.

Shapes: B images in a batch, D values in an image, K classes.
"""

import torch
from torch import Tensor


def hinge_loss(scores: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Returns the mean multiclass hinge loss, a scalar, of scores (B, K) and labels (B,)."""
    rows = torch.arange(len(labels))
    margins = (scores - scores[rows, labels][:, None] + margin).clamp(min=0)  # (B, K)
    margins[rows, labels] = 0
    return margins.sum() / len(labels)


def hinge_loss_backward(scores: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Returns the gradient ds (B, K) of the mean hinge loss with respect to scores (B, K), for labels (B,)."""
    rows = torch.arange(len(labels))
    violated = (scores - scores[rows, labels][:, None] + margin > 0).to(scores.dtype)  # (B, K)
    violated[rows, labels] = 0
    ds = violated
    ds[rows, labels] = -violated.sum(1)
    return ds / len(labels)


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean cross-entropy, a scalar, of scores (B, K) and labels (B,)."""
    shifted = scores - scores.amax(1, keepdim=True)  # so that exp does not overflow; the softmax does not change
    log_p = shifted - shifted.exp().sum(1, keepdim=True).log()
    return -log_p[torch.arange(len(labels)), labels].mean()


def cross_entropy_backward(scores: Tensor, labels: Tensor) -> Tensor:
    """Returns the gradient ds (B, K) of the mean cross-entropy with respect to scores (B, K), for labels (B,)."""
    exponentials = (scores - scores.amax(1, keepdim=True)).exp()
    ds = exponentials / exponentials.sum(1, keepdim=True)  # p
    ds[torch.arange(len(labels)), labels] -= 1
    return ds / len(labels)
