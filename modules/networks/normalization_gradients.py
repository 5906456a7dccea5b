"""Gradients of batch, layer, spatial batch and group normalization by hand: one derivation, four shapes.

**Batch normalization** of each unit over the B samples of a batch:

    μ = mean of x,    σ² = mean of (x − μ)²,    x̂ = (x − μ) / √(σ² + ε),    y = γ x̂ + β

γ and β first. Each is used by all samples, so its gradient is a sum over them:

    dβ = Σ_n dy_n,    dγ = Σ_n dy_n x̂_n,    dx̂ = γ dy

x_n reaches the loss through x̂_n, through μ and through σ². With r = 1 / √(σ² + ε), so that x̂ = (x − μ) r:

    directly      ∂x̂_n/∂x_n = r
    through μ     ∂x̂_m/∂μ = −r for every m, and ∂μ/∂x_n = 1/B                          gives  −r · mean of dx̂
    through σ²    ∂x̂_m/∂σ² = −½ (x_m − μ) r³ = −½ x̂_m r², and ∂σ²/∂x_n = 2 (x_n − μ)/B
                  (the part of σ² through μ is 0, since Σ (x − μ) = 0)                 gives  −r x̂_n · mean of dx̂ x̂

    dx = r [dx̂ − mean(dx̂) − x̂ mean(dx̂ x̂)]

In words: the gradient loses its component along the constant vector and the one along x̂, because neither a shift nor a
scaling of x changes y. The means are over the samples, so dx has the shape of x.

**Layer normalization** has μ and σ² of each sample over its D units: batch normalization of the transposed inputs,
except that γ and β belong to units and are applied after transposing back.

**Spatial batch normalization** has μ and σ² of each channel over all samples and positions: batch normalization of the
(B·H·W, C) vectors that the positions are.

**Group normalization** has μ and σ² of each sample and group of C/G channels: layer normalization of (B·G, C/G·H·W)
vectors, with γ and β for each channel.

Sources: S. Ioffe, C. Szegedy, arXiv 1502.03167; J. L. Ba et al., arXiv 1607.06450; Y. Wu, K. He, arXiv 1803.08494.
These functions are for reading; the tests compare them with automatic differentiation, which training uses.

Shapes: B samples in a batch, D units; C channels in G groups, H×W positions.
"""

from torch import Tensor

EPSILON = 1e-5


def standardize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns x̂ (B, D) and 1 / √(σ² + ε) (D,) of x (B, D), with mean and variance over the first dimension."""
    inverse = 1 / (x.var(0, correction=0) + EPSILON).sqrt()
    return (x - x.mean(0)) * inverse, inverse


def standardize_backward(dx_hat: Tensor, x_hat: Tensor, inverse: Tensor) -> Tensor:
    """Returns dx (B, D) for dx̂ (B, D) and the results of `standardize`."""
    return inverse * (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0))


def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Returns y (B, D) of inputs x (B, D) in training, with γ and β (D,)."""
    return gamma * standardize(x)[0] + beta


def batch_norm_backward(dy: Tensor, x: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns dx (B, D), dγ (D,) and dβ (D,) for dy (B, D), inputs x (B, D) and γ (D,)."""
    x_hat, inverse = standardize(x)
    return standardize_backward(gamma * dy, x_hat, inverse), (dy * x_hat).sum(0), dy.sum(0)


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Returns y (B, D) of inputs x (B, D), with γ and β (D,)."""
    return gamma * standardize(x.T)[0].T + beta


def layer_norm_backward(dy: Tensor, x: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns dx (B, D), dγ (D,) and dβ (D,) for dy (B, D), inputs x (B, D) and γ (D,)."""
    x_hat, inverse = standardize(x.T)  # (D, B): the units are what the mean is over
    dx = standardize_backward((gamma * dy).T, x_hat, inverse).T
    return dx, (dy * x_hat.T).sum(0), dy.sum(0)


def spatial_batch_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Returns y (B, C, H, W) of maps x (B, C, H, W) in training, with γ and β (C,)."""
    return _as_maps(batch_norm(_as_vectors(x), gamma, beta), x)


def spatial_batch_norm_backward(dy: Tensor, x: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns dx (B, C, H, W), dγ (C,) and dβ (C,) for dy and maps x (B, C, H, W) and γ (C,)."""
    dx, dgamma, dbeta = batch_norm_backward(_as_vectors(dy), _as_vectors(x), gamma)
    return _as_maps(dx, x), dgamma, dbeta


def group_norm(x: Tensor, gamma: Tensor, beta: Tensor, groups: int) -> Tensor:
    """Returns y (B, C, H, W) of maps x (B, C, H, W), with γ and β (C,) and `groups`, a divisor of C."""
    x_hat = standardize(_as_groups(x, groups))[0].T.reshape(x.shape)
    return gamma[:, None, None] * x_hat + beta[:, None, None]


def group_norm_backward(dy: Tensor, x: Tensor, gamma: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns dx (B, C, H, W), dγ (C,) and dβ (C,) for dy and maps x (B, C, H, W), γ (C,) and `groups`."""
    x_hat, inverse = standardize(_as_groups(x, groups))
    dx_hat = _as_groups(gamma[:, None, None] * dy, groups)
    dx = standardize_backward(dx_hat, x_hat, inverse).T.reshape(x.shape)
    return dx, (dy * x_hat.T.reshape(x.shape)).sum((0, 2, 3)), dy.sum((0, 2, 3))


def _as_vectors(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) as vectors (B·H·W, C), one for each position."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _as_maps(vectors: Tensor, like: Tensor) -> Tensor:
    """Vectors (B·H·W, C) as maps of the shape (B, C, H, W) of `like`."""
    batch, channels, height, width = like.shape
    return vectors.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def _as_groups(maps: Tensor, groups: int) -> Tensor:
    """Maps (B, C, H, W) as columns (C/G·H·W, B·G), one for each sample and group."""
    return maps.reshape(len(maps) * groups, -1).T
