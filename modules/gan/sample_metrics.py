"""How good generated images are, in the eyes of a classifier of the real ones.

    Fréchet distance   ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)   of normal distributions fitted to the features of either
    histogram KL       Σ q log(q / p)   of the classes' shares q among the generated images and p among the real ones
    confidence         mean over generated images of the largest of the classes' probabilities

The distance grows if samples look unlike real images and if they are less diverse; KL alone sees classes that are made
too often or never; confidence falls for images that are no digit, or two. All are 0 (confidence: near 1) at best.

The square root is taken of a symmetric matrix: Σ₁ Σ₂ has the eigenvalues of Σ₁^½ Σ₂ Σ₁^½. All in float64, since the
distance is a small difference of large sums.

Sources: M. Heusel et al., arXiv 1706.08500 (with features of Inception, hence "FID"); T. Salimans et al., arXiv
1606.03498 for judging samples by a classifier's classes.

Shapes: N and M images, D features, K classes.
"""

import torch
from torch import Tensor

from common.errors import UserError


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Between features (N, D) and (M, D), at least 2 of each; 0 if their means and covariances are the same.

    Raises:
        ValueError: fewer than 2 of either, or values that are not finite.
    """
    if min(len(first), len(second)) < 2:
        raise UserError(f"A Fréchet distance needs at least 2 images on either side, not {len(first)}, {len(second)}.")
    if not (first.isfinite().all() and second.isfinite().all()):
        raise UserError("Features of images are not finite numbers, so their Fréchet distance is none either.")
    first, second = first.double(), second.double()
    difference = first.mean(0) - second.mean(0)
    covariances = first.mT.cov(), second.mT.cov()  # (D, D) each, divided by N − 1
    (a, b) = (matrix.reshape(first.shape[1], -1) for matrix in covariances)  # of a single feature, cov is a scalar
    variances, directions = torch.linalg.eigh(a)
    root = directions * variances.clamp(min=0).sqrt() @ directions.mT  # a^½
    trace = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float((difference.square().sum() + a.trace() + b.trace() - 2 * trace).clamp(min=0))


def histogram_kl(generated: Tensor, real: Tensor, num_classes: int) -> float:
    """Of the classes of generated images (N,) from those of real ones (M,), int64; infinite if they make a new one."""
    q, p = (labels.bincount(minlength=num_classes).double() / len(labels) for labels in (generated, real))
    return float(torch.special.xlogy(q, q / p).nan_to_num(nan=0.0, posinf=float("inf")).sum())


def mean_confidence(logits: Tensor) -> float:
    """Of logits (N, K)."""
    return float(logits.double().softmax(1).amax(1).mean())
