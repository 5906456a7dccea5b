"""Gradients of affine layers, ReLU and dropout by hand.

A layer maps x to y. Backpropagation receives dy = ∂L/∂y and returns dx = ∂L/∂x, and the gradients of the parameters.
A gradient always has the shape of what it belongs to, which tells where to transpose and what to sum.

**Affine layer**  y = x Wᵀ + b,  so y_nm = Σ_d x_nd W_md + b_m:

    ∂L/∂x_nd = Σ_m ∂L/∂y_nm · W_md            dx = dy W         (B, M)(M, D) → (B, D)
    ∂L/∂W_md = Σ_n ∂L/∂y_nm · x_nd            dW = dyᵀ x        (M, B)(B, D) → (M, D)
    ∂L/∂b_m  = Σ_n ∂L/∂y_nm                   db = Σ_n dy_n     (M,)

**ReLU**  y = max(0, x):  dx = dy where x > 0, else 0. At x = 0, where there is no derivative, 0 is taken.

**Dropout**  y = m ⊙ x / p with a random mask m of zeros and ones, 1 with probability p:  dx = m ⊙ dy / p. The mask of
the forward pass is kept.

Sources: https://cs231n.github.io/optimization-2/ and https://cs231n.github.io/neural-networks-2/#reg. These functions
are for reading; the tests compare them with automatic differentiation, which training uses.

Shapes: B samples in a batch, D inputs, M outputs.
"""

from torch import Tensor


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns y (B, M) of inputs x (B, D), weight (M, D) and bias (M,)."""
    return x @ weight.T + bias


def affine_backward(dy: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns dx (B, D), dW (M, D) and db (M,) for dy (B, M), inputs x (B, D) and weight (M, D)."""
    return dy @ weight, dy.T @ x, dy.sum(0)


def relu(x: Tensor) -> Tensor:
    """Returns max(0, x), of any shape."""
    return x.clamp(min=0)


def relu_backward(dy: Tensor, x: Tensor) -> Tensor:
    """Returns dx for dy and the inputs x, all of one shape."""
    return dy * (x > 0)


def dropout(x: Tensor, mask: Tensor, dropout: float) -> Tensor:
    """Returns y of inputs x and a mask of zeros and ones, of one shape; `dropout` is 1 − p, in [0, 1)."""
    return mask * x / (1 - dropout)


def dropout_backward(dy: Tensor, mask: Tensor, dropout: float) -> Tensor:
    """Returns dx for dy and the mask of the forward pass; `dropout` is 1 − p, in [0, 1)."""
    return mask * dy / (1 - dropout)
