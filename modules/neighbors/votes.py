"""Votes of the nearest neighbors, for every number of neighbors up to k at once.

Each of the k nearest neighbors votes for its class, with weight 1 or, so that nearer ones count more, 1 / distance:

    votes_c = Σ_{i ≤ k} w_i [y_i = c]        w_i = 1 (majority)  or  1 / d_i (distance)

If neighbors have the distance 0, only these vote, with weight 1 each. Among classes with equally many votes, the class
of the nearest neighbor wins. Votes are cumulative sums over the neighbors in order, so one search for the largest k
gives the predictions of all smaller ones as well.

Source: https://cs231n.github.io/classification/#k-nearest-neighbor-classifier

Shapes: B images in a batch, K classes, k neighbors.
"""

from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

Weights = Literal["majority", "distance"]


class CorrectByK(Metric):
    """Accuracy for every k up to `k_max`, over all batches and processes."""

    correct: Tensor
    images: Tensor

    def __init__(self, k_max: int) -> None:
        super().__init__()
        self.add_state("correct", torch.zeros(k_max, dtype=torch.int64), "sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), "sum")

    def update(self, correct: Tensor) -> None:
        """Counts a batch, given whether each image is classified correctly with each k, (B, k_max) bool."""
        self.correct += correct.sum(0)
        self.images += len(correct)

    def compute(self) -> Tensor:
        """Returns the accuracies, (k_max,) float64."""
        return self.correct.double() / self.images


def votes(distances: Tensor, labels: Tensor, num_classes: int, weights: Weights) -> tuple[Tensor, Tensor]:
    """Counts the votes of the first 1, 2, …, k neighbors.

    Args:
        distances: Distances of the neighbors (B, k), ascending.
        labels: Classes of the neighbors (B, k) int64.
        num_classes: Number of classes K.
        weights: Weight of a vote: majority or distance.

    Returns:
        Shares of the votes (B, k, K) float64, and the winning classes (B, k) int64: those with the most votes, or of
        several with equally many votes the one with the nearest neighbor (with the first, if several are equally near).
    """
    w = torch.ones_like(distances, dtype=torch.float64)
    if weights == "distance":
        identical = distances == 0
        w = torch.where(identical[:, :1], identical.double(), 1 / distances.double())
    by_class = w.new_zeros(*labels.shape, num_classes).scatter_(2, labels[..., None], w[..., None])
    counts = by_class.cumsum(1)  # (B, k, K)
    closeness = torch.arange(labels.shape[1], 0, -1, dtype=torch.float64, device=labels.device)
    nearest = torch.zeros_like(counts[:, 0]).scatter_reduce(1, labels, closeness.expand(labels.shape), "amax")  # (B, K)
    tied = counts == counts.amax(2, keepdim=True)
    winners = torch.where(tied, nearest[:, None], -1.0).argmax(2)
    return counts / counts.sum(2, keepdim=True), winners


def similarity_votes(distances: Tensor, labels: Tensor, num_classes: int, temperature: float) -> Tensor:
    """Counts votes of weight exp(s_i / τ) with the cosine similarity s_i = 1 − d_i (Z. Wu et al., arXiv 1805.01978).

    Args:
        distances: Cosine distances d of the neighbors (B, k), ascending.
        labels: Classes of the neighbors (B, k) int64.
        num_classes: Number of classes K.
        temperature: Temperature τ, > 0.

    Returns:
        Shares of the votes (B, K) float64.
    """
    w = (-distances.double() / temperature).softmax(1)  # the factor exp(1 / τ) is the same for all
    return w.new_zeros(len(labels), num_classes).scatter_add_(1, labels, w)
