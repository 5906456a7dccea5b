"""A linear classifier: one template per class, and the score of an image is its inner product with the template.

    logits = W x + b,    loss = data loss + ½ λ ‖W‖²

Source: https://cs231n.github.io/linear-classify/. The data loss makes it a support vector machine (`linear_svm.py`) or
softmax regression (`softmax_regression.py`). The bias b is not regularized.

Shapes: B images in a batch, D values in an image, K classes.
"""

from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from modules.base.classifier import Classifier
from modules.networks.initialization import check_settings, initialize, penalty


class LinearClassifier(Classifier):
    """Scores by one weight vector a class; a subclass says the data loss.

    Args:
        input_shape: shape of one image, D values in all.
        num_classes: K.
        reg: λ, strength of the L2 regularization of the weights, at least 0.
        weight_scale: standard deviation of the weights at the start, above 0; small, so that all classes start level.

    Raises:
        ValueError: a negative λ or a weight scale that is not above 0.
    """

    class_templates: ClassVar[bool] = True  # whether `templates` has one for each class

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, reg: float, weight_scale: float) -> None:
        super().__init__(num_classes)
        check_settings(reg, weight_scale)
        self.input_shape = tuple(input_shape)
        self.reg = reg
        self.linear = nn.Linear(prod(self.input_shape), num_classes)
        initialize([self.linear], weight_scale)
        self.example_input_array = torch.zeros(1, *self.input_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, *input_shape) to logits (B, K)."""
        logits: Tensor = self.linear(images.flatten(1))
        return logits

    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over the batch without regularization: logits (B, K), labels (B,) to a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must say its data loss.")

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Data loss plus ½ λ ‖W‖²."""
        return self.data_loss(logits, labels) + penalty([self.linear], self.reg)

    def templates(self) -> Tensor:
        """The weight vector of each class, in the shape of an image: (K, *input_shape)."""
        return self.linear.weight.detach().unflatten(1, self.input_shape)
