"""Metrics of generated images, computed from the features and probabilities of a classifier of the real images.

    Fréchet distance   ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)   between normal distributions fitted to the features
    histogram KL       Σ q log(q / p)   of class frequencies q among generated and p among real images
    confidence         mean over generated images of the largest class probability

The distance grows if samples look unlike real images or are less diverse; KL measures classes that are generated too
often or too rarely; confidence drops for ambiguous images. The best values are 0, for confidence near 1.

Σ₁ Σ₂ has the eigenvalues of the symmetric matrix Σ₁^½ Σ₂ Σ₁^½, whose square root is computed instead, in float64, since
the distance is a small difference of large sums.

Sources: M. Heusel et al., arXiv 1706.08500 (with features of Inception, hence "FID"); T. Salimans et al., arXiv
1606.03498 for evaluating samples by a classifier.

Shapes: N and M images, D features, K classes.
"""

import torch
from torch import Tensor

from common.errors import UserError


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Returns the Fréchet distance between features (N, D) and (M, D), 0 if means and covariances are equal.

    Raises:
        ValueError: If there are fewer than 2 images on either side, or a feature is not finite.
    """
    if min(len(first), len(second)) < 2:
        raise UserError(f"A Fréchet distance needs at least 2 images on each side, not {len(first)} and {len(second)}.")
    if not (first.isfinite().all() and second.isfinite().all()):
        raise UserError(
            "Features contain NaN or inf, so the Fréchet distance is undefined; use a checkpoint from before that."
        )
    first, second = first.double(), second.double()
    difference = first.mean(0) - second.mean(0)
    covariances = first.mT.cov(), second.mT.cov()  # (D, D) each, divided by N − 1
    (a, b) = (matrix.reshape(first.shape[1], -1) for matrix in covariances)  # cov of a single feature is a scalar
    variances, directions = torch.linalg.eigh(a)
    root = directions * variances.clamp(min=0).sqrt() @ directions.mT  # a^½
    trace = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float((difference.square().sum() + a.trace() + b.trace() - 2 * trace).clamp(min=0))


def histogram_kl(generated: Tensor, real: Tensor, num_classes: int) -> float:
    """Returns the KL divergence of class labels (N,) of generated from (M,) of real images; inf for a new class."""
    q, p = (labels.bincount(minlength=num_classes).double() / len(labels) for labels in (generated, real))
    return float(torch.special.xlogy(q, q / p).nan_to_num(nan=0.0, posinf=float("inf")).sum())


def mean_confidence(logits: Tensor) -> float:
    """Returns the mean of the largest class probability of logits (N, K)."""
    return float(logits.double().softmax(1).amax(1).mean())
