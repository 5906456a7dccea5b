"""The votes of nearest neighbors, for every number of neighbors up to k at once.

Each of the k nearest votes for its class, with one vote or, so that nearer ones count more, with 1 / distance:

    votes_c = Σ_{i ≤ k} w_i [y_i = c]        w_i = 1 (majority)  or  1 / d_i (distance)

Neighbors with the distance 0 decide alone, with one vote each. Among classes with equally many votes the one whose
nearest member is nearest wins. Votes are sums over the neighbors in order, so one search for the largest k gives the
predictions of all smaller ones as well.

Source: https://cs231n.github.io/classification/#k-nearest-neighbor-classifier

Shapes: B images in a batch, K classes, k neighbors.
"""

from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

Weights = Literal["majority", "distance"]


class CorrectByK(Metric):
    """Share of the images that are classified rightly, for every k up to `k_max`, over all batches and processes."""

    correct: Tensor
    images: Tensor

    def __init__(self, k_max: int) -> None:
        super().__init__()
        self.add_state("correct", torch.zeros(k_max, dtype=torch.int64), "sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), "sum")

    def update(self, correct: Tensor) -> None:
        """Counts a batch: whether each image is right with each k, (B, k_max) bool."""
        self.correct += correct.sum(0)
        self.images += len(correct)

    def compute(self) -> Tensor:
        """Shares, (k_max,) float64."""
        return self.correct.double() / self.images


def votes(distances: Tensor, labels: Tensor, num_classes: int, weights: Weights) -> tuple[Tensor, Tensor]:
    """Votes of the first 1, 2, …, k neighbors.

    Args:
        distances: (B, k), ascending.
        labels: classes of the neighbors, (B, k) int64.
        num_classes: K.
        weights: majority or distance.

    Returns:
        Shares of the votes (B, k, K) float64, and the class that wins (B, k) int64: the one with the most votes, among
        equals the one whose nearest member is nearest (first, where several are equally near).
    """
    ballots = torch.ones_like(distances, dtype=torch.float64)
    if weights == "distance":
        same = distances == 0
        ballots = torch.where(same[:, :1], same.double(), 1 / distances.double())
    by_class = ballots.new_zeros(*labels.shape, num_classes).scatter_(2, labels[..., None], ballots[..., None])
    counts = by_class.cumsum(1)  # (B, k, K)
    order = torch.arange(labels.shape[1], 0, -1, dtype=torch.float64, device=labels.device)
    nearest = torch.zeros_like(counts[:, 0]).scatter_reduce(1, labels, order.expand(labels.shape), "amax")  # (B, K)
    tied = counts == counts.amax(2, keepdim=True)
    winners = torch.where(tied, nearest[:, None], -1.0).argmax(2)
    return counts / counts.sum(2, keepdim=True), winners


def similarity_votes(distances: Tensor, labels: Tensor, num_classes: int, temperature: float) -> Tensor:
    """Votes of k neighbors that count exp(s_i / τ), s_i = 1 − d_i their cosine (Z. Wu et al., arXiv 1805.01978).

    Args:
        distances: cosine distances d (B, k), ascending.
        labels: classes of the neighbors, (B, k) int64.
        num_classes: K.
        temperature: τ, above 0.

    Returns:
        Shares of the votes, (B, K) float64.
    """
    ballots = (-distances.double() / temperature).softmax(1)  # the factor exp(1 / τ) is the same for all
    return ballots.new_zeros(len(labels), num_classes).scatter_add_(1, labels, ballots)
