"""Gradients of a vanilla RNN's step and of an LSTM's step by hand.

A recurrent network applies the same step at each time. Backpropagation through time goes through the steps from the
last to the first; the state h_t feeds both the output at t and the step t + 1, so its gradient is the sum of both, and
the gradients of the weights are summed over the steps.

**Vanilla RNN**  h = tanh(a),  a = W_x x + W_h h′ + b,  h′ the state before. Since tanh′(a) = 1 − tanh²(a):

    da = (1 − h²) ⊙ dh
    dx = da W_x,  dh′ = da W_h,  dW_x = daᵀ x,  dW_h = daᵀ h′,  db = Σ_n da_n        (an affine layer's gradients)

Over T steps, dh_0 has the factor W_h T times and that of tanh, ≤ 1, as well: it vanishes or explodes.

**LSTM**  a = W_x x + W_h h′ + b, a quarter each for  i, f, o = σ(·) and g = tanh(·);  c = f ⊙ c′ + i ⊙ g;
h = o ⊙ tanh(c). c receives gradient from the next step, dc, and from h:

    dc ← dc + dh ⊙ o ⊙ (1 − tanh²(c))
    do = dh ⊙ tanh(c),   di = dc ⊙ g,   dg = dc ⊙ i,   df = dc ⊙ c′,   dc′ = dc ⊙ f
    da = (di i (1 − i), df f (1 − f), dg (1 − g²), do o (1 − o))        since σ′ = σ (1 − σ)

then as for the affine layer above. Along c, the gradient is multiplied by the forget gate f alone, without a matrix:
where f is near 1 it neither vanishes nor explodes.

Sources: https://cs231n.github.io/rnn/; S. Hochreiter, J. Schmidhuber, Neural Computation 9(8), 1997. These functions
are for reading; the tests compare them with automatic differentiation, which training uses.

Shapes: B sequences in a batch, D values of an input, H units.
"""

import torch
from torch import Tensor


def rnn_step(x: Tensor, before: Tensor, w_x: Tensor, w_h: Tensor, bias: Tensor) -> Tensor:
    """Returns the state h (B, H) after input x (B, D) and state (B, H), with w_x (H, D), w_h (H, H), bias (H,)."""
    return (x @ w_x.T + before @ w_h.T + bias).tanh()


def rnn_step_backward(
    dh: Tensor, h: Tensor, x: Tensor, before: Tensor, w_x: Tensor, w_h: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns dx, the gradient of the state before, dW_x, dW_h and db, for dh (B, H) and the new state h (B, H)."""
    da = (1 - h**2) * dh
    return da @ w_x, da @ w_h, da.T @ x, da.T @ before, da.sum(0)


def lstm_step(
    x: Tensor, before: Tensor, cells_before: Tensor, w_x: Tensor, w_h: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns state h and cells c (B, H) after input x (B, D), state and cells (B, H).

    The weights w_x (4H, D), w_h (4H, H) and the bias (4H,) have the gates in torch's order i, f, g, o.
    """
    i, f, g, o = _gates(x, before, w_x, w_h, bias)
    cells = f * cells_before + i * g
    return o * cells.tanh(), cells


def lstm_step_backward(
    dh: Tensor,
    dcells: Tensor,
    x: Tensor,
    before: Tensor,
    cells_before: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns dx, the gradients of state and cells before, dW_x, dW_h and db, for dh and dc (B, H) of the new ones."""
    i, f, g, o = _gates(x, before, w_x, w_h, bias)
    squashed = (f * cells_before + i * g).tanh()
    dcells = dcells + dh * o * (1 - squashed**2)
    di, df, dg, do = dcells * g, dcells * cells_before, dcells * i, dh * squashed
    da = torch.cat([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], 1)  # (B, 4H)
    return da @ w_x, da @ w_h, dcells * f, da.T @ x, da.T @ before, da.sum(0)


def _gates(x: Tensor, before: Tensor, w_x: Tensor, w_h: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    i, f, g, o = (x @ w_x.T + before @ w_h.T + bias).chunk(4, 1)
    return i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
