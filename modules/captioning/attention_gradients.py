"""Gradients of attention by hand.

    P = softmax(S) over each row,    S = Q Kᵀ / √D,    Y = P V

    dV = Pᵀ dY,   dP = dY Vᵀ
    dS_tj = P_tj (dP_tj − Σ_k P_tk dP_tk)        from ∂P_k/∂S_j = P_k (1[k = j] − P_j)
    dQ = dS K / √D,   dK = dSᵀ Q / √D

Source: A. Vaswani et al., arXiv 1706.03762. These functions are for reading; the tests compare them with automatic
differentiation, which training uses.

Shapes: B sequences in a batch, T queries, S keys, D features.
"""

from torch import Tensor


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Returns Y (B, T, D) of queries (B, T, D), keys and values (B, S, D)."""
    return _weights(queries, keys) @ values


def attention_backward(dy: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns dQ (B, T, D), dK and dV (B, S, D) for dy (B, T, D), queries (B, T, D), keys and values (B, S, D)."""
    weights = _weights(queries, keys)  # (B, T, S)
    dweights = dy @ values.mT
    dscores = weights * (dweights - (weights * dweights).sum(2, keepdim=True)) / queries.shape[2] ** 0.5
    return dscores @ keys, dscores.mT @ queries, weights.mT @ dy


def _weights(queries: Tensor, keys: Tensor) -> Tensor:
    """Softmax over the keys of the scaled inner products: (B, T, S)."""
    return (queries @ keys.mT / queries.shape[2] ** 0.5).softmax(2)
