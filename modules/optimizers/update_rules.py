"""The course's update rules: SGD, momentum, Nesterov momentum, Adagrad, RMSprop and Adam, a function each.

An update rule moves the weights w against the gradient g = ∂L/∂w, with learning rate η:

    SGD                  w ← w − η g
    momentum μ           v ← μ v + g,               w ← w − η v
    Nesterov momentum μ  v ← μ v + g,               w ← w − η (g + μ v)
    Adagrad              c ← c + g²,                w ← w − η g / (√c + ε)
    RMSprop, decay γ     c ← γ c + (1 − γ) g²,      w ← w − η g / (√c + ε)
    Adam, decays β₁ β₂   m ← β₁ m + (1 − β₁) g,     v ← β₂ v + (1 − β₂) g²
                         m̂ = m / (1 − β₁ᵗ),         v̂ = v / (1 − β₂ᵗ),        w ← w − η m̂ / (√v̂ + ε)

Bias correction: m and v start at 0 and are too small in the first steps, so Adam divides them by 1 − βᵗ.

The course writes momentum as v ← μ v − η g, w ← w + v, and Nesterov momentum as w ← w − μ v_before + (1 + μ) v. Its v
is −η times the v above, so that the steps are equal as long as the learning rate is constant, and only then. The form
above is torch's, which runs with SGD use: it applies the current rate to all past gradients, whereas the
course's keeps the rate that each gradient had. Under a cosine schedule, the default of most topics, the two forms give
different weights.

These functions are for reading, and the tests compare torch's optimizers with them. Training uses torch's optimizers,
which hold the same state for every parameter: `--optimizer Adam --optimizer.lr 1e-3 --optimizer.betas '[0.9, 0.999]'`.

Sources: https://cs231n.github.io/neural-networks-3/#update; J. Duchi et al., JMLR 12 (2011) for Adagrad; D. P. Kingma
and J. Ba, arXiv 1412.6980 for Adam.

Shapes: weights, gradients and all state have one shape, that of the parameter.
"""

from torch import Tensor


def sgd(w: Tensor, g: Tensor, lr: float) -> Tensor:
    """Returns the weights after a step of stochastic gradient descent.

    Args:
        w: Weights.
        g: Gradient of the loss at w.
        lr: Learning rate η, > 0.
    """
    return w - lr * g


def momentum(w: Tensor, g: Tensor, v: Tensor, lr: float, mu: float = 0.9) -> tuple[Tensor, Tensor]:
    """Returns weights and velocity after a step of SGD with momentum.

    Args:
        w: Weights.
        g: Gradient of the loss at w.
        v: Velocity; 0 before the first step.
        lr: Learning rate η, > 0.
        mu: Momentum μ, in [0, 1).
    """
    v = mu * v + g
    return w - lr * v, v


def nesterov_momentum(w: Tensor, g: Tensor, v: Tensor, lr: float, mu: float = 0.9) -> tuple[Tensor, Tensor]:
    """Returns weights and velocity after a step of SGD with Nesterov momentum, which looks one step ahead.

    Args:
        w: Weights.
        g: Gradient of the loss at w.
        v: Velocity; 0 before the first step.
        lr: Learning rate η, > 0.
        mu: Momentum μ, in [0, 1).
    """
    v = mu * v + g
    return w - lr * (g + mu * v), v


def adagrad(w: Tensor, g: Tensor, c: Tensor, lr: float, eps: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Returns weights and the sum of squared gradients after a step of Adagrad.

    Args:
        w: Weights.
        g: Gradient of the loss at w.
        c: Sum of all squared gradients; 0 before the first step.
        lr: Learning rate η, > 0.
        eps: ε, > 0, against division by zero.
    """
    c = c + g**2
    return w - lr * g / (c.sqrt() + eps), c


def rmsprop(
    w: Tensor, g: Tensor, c: Tensor, lr: float, decay: float = 0.99, eps: float = 1e-8
) -> tuple[Tensor, Tensor]:
    """Returns weights and the average of squared gradients after a step of RMSprop.

    Args:
        w: Weights.
        g: Gradient of the loss at w.
        c: Moving average of the squared gradients; 0 before the first step.
        lr: Learning rate η, > 0.
        decay: Decay γ of the average, in [0, 1); torch calls it alpha.
        eps: ε, > 0, against division by zero.
    """
    c = decay * c + (1 - decay) * g**2
    return w - lr * g / (c.sqrt() + eps), c


def adam(
    w: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns weights and both averages after step t of Adam.

    Args:
        w: Weights.
        g: Gradient of the loss at w.
        m: Moving average of the gradients; 0 before the first step.
        v: Moving average of the squared gradients; 0 before the first step.
        t: Number of this step, ≥ 1.
        lr: Learning rate η, > 0.
        betas: Decays β₁ of m and β₂ of v, each in [0, 1).
        eps: ε, > 0, against division by zero.
    """
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return w - lr * m_hat / (v_hat.sqrt() + eps), m, v
