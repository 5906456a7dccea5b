"""Linear classifier: the score of a class is the inner product of the image with the weights of that class.

    logits = W x + b,    loss = data loss + ½ λ ‖W‖²

Source: https://cs231n.github.io/linear-classify/. The data loss makes it a support vector machine (`linear_svm.py`) or
softmax regression (`softmax_regression.py`). The bias b is not regularized.

Shapes: B images in a batch, D values in an image, K classes.
"""

from abc import abstractmethod
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from modules.base.classifier import Classifier
from modules.networks.initialization import check_settings, initialize, l2_penalty


class LinearClassifier(Classifier):
    """Linear classifier with one weight vector per class; a subclass defines the data loss.

    Args:
        input_shape: Shape of one image of D values.
        num_classes: Number of classes K, ≥ 2.
        reg: Strength λ of the L2 regularization of the weights, ≥ 0.
        weight_scale: Standard deviation of the initial weights, > 0; if small, all classes start with equal scores.

    Raises:
        ValueError: If λ is negative or the weight scale is not positive.
    """

    class_templates: ClassVar[bool] = True  # `templates` returns one per class
    stackable: ClassVar[frozenset[str]] = frozenset({"reg", "weight_scale"})

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, reg: float, weight_scale: float) -> None:
        super().__init__(num_classes)
        check_settings(reg, weight_scale)
        self.input_shape = tuple(input_shape)
        self.reg = reg
        self.linear = nn.Linear(prod(self.input_shape), num_classes)
        initialize([self.linear], weight_scale)
        self.example_input_array = torch.zeros(1, *self.input_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, K) of images (B, *input_shape)."""
        logits: Tensor = self.linear(images.flatten(1))
        return logits

    @abstractmethod
    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean loss over the batch without regularization, a scalar, of logits (B, K) and labels (B,)."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the data loss plus ½ λ ‖W‖²."""
        return self.data_loss(logits, labels) + l2_penalty([self.linear], self.reg)

    def templates(self) -> Tensor:
        """Returns the weight vector of each class in the shape of an image, (K, *input_shape)."""
        return self.linear.weight.detach().unflatten(1, self.input_shape)
