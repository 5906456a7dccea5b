"""Multiclass linear support vector machine.

For an image with scores s = W x + b and true class y, every other class should score lower by at least a margin Δ:

    L = mean over images of Σ_{j≠y} max(0, s_j − s_y + Δ)  +  ½ λ ‖W‖²

Source: J. Weston, C. Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999;
https://cs231n.github.io/linear-classify/#svm

    python -m pipelines.train fit --config svm

Shapes: B images in a batch, K classes.
"""

from typing import ClassVar

from torch import Tensor

from common.ranges import check_range
from modules.base.half_precision import at_least_float32
from modules.linear.linear_classifier import LinearClassifier


class LinearSVM(LinearClassifier):
    """Linear classifier with the multiclass hinge loss.

    Args:
        input_shape: Shape of one image.
        num_classes: Number of classes K, ≥ 2.
        reg: Strength λ of the L2 regularization of the weights, ≥ 0.
        margin: Margin Δ by which the true class should score higher, > 0.
        weight_scale: Standard deviation of the initial weights, > 0.

    Raises:
        ValueError: If a value is out of its range.
    """

    stackable: ClassVar[frozenset[str]] = LinearClassifier.stackable | {"margin"}

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        reg: float = 1e-3,
        margin: float = 1.0,
        weight_scale: float = 1e-3,
    ) -> None:
        super().__init__(input_shape, num_classes, reg, weight_scale)
        check_range("margin", margin, margin > 0, "> 0, such as 1")
        self.save_hyperparameters(logger=False)
        self.margin = margin

    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the multiclass hinge loss, a scalar, of logits (B, K) and labels (B,)."""
        logits, true = at_least_float32(logits), labels[:, None]  # (B, K), (B, 1)
        margins = logits - logits.gather(1, true) + self.margin  # (B, K), Δ for the true class, which is left out:
        violations = margins.scatter(1, true, 0.0).relu()  # subtracting Δ from the sum can round to less than 0
        return violations.sum() / len(labels)

    def expected_initial_loss(self) -> float:
        """Returns (K − 1) Δ: with equal scores, each of the other classes violates the margin by Δ."""
        return (self.num_classes - 1) * self.margin
