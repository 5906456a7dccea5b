"""Multiclass linear support vector machine.

For an image with scores s = W x + b and true class y, every other class should score lower by a margin Δ:

    L = mean over images of Σ_{j≠y} max(0, s_j − s_y + Δ)  +  ½ λ ‖W‖²

Source: J. Weston, C. Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999;
https://cs231n.github.io/linear-classify/#svm

    python -m pipelines.train fit --config svm

Shapes: B images in a batch, K classes.
"""

from torch import Tensor

from common.errors import UserError
from modules.linear.linear_classifier import LinearClassifier


class LinearSVM(LinearClassifier):
    """Linear classifier with the multiclass hinge loss.

    Args:
        input_shape: shape of one image.
        num_classes: K, at least 2.
        reg: λ, strength of the L2 regularization of the weights, at least 0.
        margin: Δ, how much higher the true class should score, above 0.
        weight_scale: standard deviation of the weights at the start, above 0.

    Raises:
        ValueError: a value out of the range given above.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        reg: float = 1e-3,
        margin: float = 1.0,
        weight_scale: float = 1e-3,
    ) -> None:
        super().__init__(input_shape, num_classes, reg, weight_scale)
        if not margin > 0:
            raise UserError(f"margin is {margin}; give a number above 0, such as 1.")
        self.save_hyperparameters(logger=False)
        self.margin = margin

    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Multiclass hinge loss: logits (B, K), labels (B,) to a scalar."""
        true = logits.gather(1, labels[:, None])  # (B, 1)
        violations = (logits - true + self.margin).clamp(min=0)  # (B, K)
        return violations.sum(1).mean() - self.margin  # the true class itself added Δ

    def expected_initial_loss(self) -> float:
        """(K − 1) Δ: with equal scores every other class violates the margin by all of it."""
        return (self.num_classes - 1) * self.margin
