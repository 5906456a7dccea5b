"""Softmax regression, also called multinomial logistic regression.

The scores s = W x + b are unnormalized log probabilities, and the loss is the cross-entropy:

    p_j = exp(s_j) / Σ_k exp(s_k),    L = mean over images of −log p_y  +  ½ λ ‖W‖²

Source: https://cs231n.github.io/linear-classify/#softmax

    python -m pipelines.train fit --config softmax

Shapes: B images in a batch, K classes.
"""

from math import log

import torch.nn.functional as F
from torch import Tensor

from modules.linear.linear_classifier import LinearClassifier


class SoftmaxRegression(LinearClassifier):
    """Linear classifier with the cross-entropy loss.

    Args:
        input_shape: Shape of one image.
        num_classes: Number of classes K, ≥ 2.
        reg: Strength λ of the L2 regularization of the weights, ≥ 0.
        weight_scale: Standard deviation of the initial weights, > 0.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, reg: float = 1e-3, weight_scale: float = 1e-3
    ) -> None:
        super().__init__(input_shape, num_classes, reg, weight_scale)
        self.save_hyperparameters(logger=False)

    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the cross-entropy, a scalar, of logits (B, K) and labels (B,)."""
        return F.cross_entropy(logits, labels)

    def expected_initial_loss(self) -> float:
        """Returns ln K: with equal scores, every class has probability 1/K."""
        return log(self.num_classes)
