"""Gradients of attention by hand.

    P = softmax(S) over each row,    S = Q Kᵀ / √D,    Y = P V

    dV = Pᵀ dY,   dP = dY Vᵀ
    dS_tj = P_tj (dP_tj − Σ_k P_tk dP_tk)        from ∂P_k/∂S_j = P_k (1[k = j] − P_j)
    dQ = dS K / √D,   dK = dSᵀ Q / √D

With a causal mask, query t attends to the keys 1 … t only: S_tj is −∞ for j > t, so that P_tj = 0, and with it dS_tj.

Source: A. Vaswani et al., arXiv 1706.03762. These functions are for reading; the tests compare them with automatic
differentiation, which training uses.

Shapes: B sequences in a batch, T queries, S keys, D features.
"""

import torch
from torch import Tensor


def attention(queries: Tensor, keys: Tensor, values: Tensor, causal: bool = False) -> Tensor:
    """Returns Y (B, T, D) of queries (B, T, D), keys and values (B, S, D); `causal` needs S = T."""
    return _weights(queries, keys, causal) @ values


def attention_backward(
    dy: Tensor, queries: Tensor, keys: Tensor, values: Tensor, causal: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns dQ (B, T, D), dK and dV (B, S, D) for dy (B, T, D), queries (B, T, D), keys and values (B, S, D)."""
    weights = _weights(queries, keys, causal)  # (B, T, S)
    dweights = dy @ values.mT
    dscores = weights * (dweights - (weights * dweights).sum(2, keepdim=True)) / queries.shape[2] ** 0.5
    return dscores @ keys, dscores.mT @ queries, weights.mT @ dy


def _weights(queries: Tensor, keys: Tensor, causal: bool) -> Tensor:
    """Softmax over the keys of the scaled inner products: (B, T, S)."""
    scores = queries @ keys.mT / queries.shape[2] ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -torch.inf)
    return scores.softmax(2)
