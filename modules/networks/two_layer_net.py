"""Two-layer network: an affine layer, ReLU and a second affine layer.

    h = max(0, W₁ x + b₁),    s = W₂ h + b₂,    L = mean over images of −log softmax(s)_y  +  ½ λ (‖W₁‖² + ‖W₂‖²)

Source: https://cs231n.github.io/neural-networks-1/

    python -m pipelines.train fit --config two_layer

Shapes: B images in a batch, D values in an image, H hidden units, K classes.
"""

from math import log, prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.ranges import check_range
from modules.base.classifier import Classifier
from modules.networks.initialization import check_settings, initialize, l2_penalty, starts_near_zero


class TwoLayerNet(Classifier):
    """One hidden layer of ReLU units, cross-entropy loss and L2 regularization of the weights.

    Args:
        input_shape: Shape of one image of D values.
        num_classes: Number of classes K, ≥ 2.
        hidden_size: Number of hidden units H, ≥ 1.
        reg: Strength λ of the L2 regularization of both weight matrices, ≥ 0.
        weight_scale: Standard deviation of the initial weights, > 0; None takes He's √(2/D) in the first layer, and a
            tenth of √(2/H) in the second, so that all classes start with nearly equal scores.

    Raises:
        ValueError: If a value is out of its range.
    """

    class_templates: ClassVar[bool] = False  # `templates` returns one per hidden unit, not per class
    stackable: ClassVar[frozenset[str]] = frozenset({"reg", "weight_scale"})

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        hidden_size: int = 512,
        reg: float = 1e-3,
        weight_scale: float | None = None,
    ) -> None:
        super().__init__(num_classes)
        check_range("hidden_size", hidden_size, hidden_size >= 1, "at least 1")
        check_settings(reg, weight_scale)
        self.save_hyperparameters(logger=False)
        self.input_shape = tuple(input_shape)
        self.reg = reg
        self.hidden = nn.Linear(prod(self.input_shape), hidden_size)
        self.output = nn.Linear(hidden_size, num_classes)
        initialize([self.hidden, self.output], weight_scale)
        self.near_zero_start = starts_near_zero(weight_scale)
        self.example_input_array = torch.zeros(1, *self.input_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, K) of images (B, *input_shape)."""
        hidden = self.hidden(images.flatten(1)).relu()  # (B, H)
        logits: Tensor = self.output(hidden)
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns cross-entropy plus ½ λ (‖W₁‖² + ‖W₂‖²), a scalar, of logits (B, K) and labels (B,)."""
        return F.cross_entropy(logits, labels) + l2_penalty([self.hidden, self.output], self.reg)

    def expected_initial_loss(self) -> float | None:
        """Returns ln K if the initial weights are small, since all scores are then near 0; None otherwise."""
        return log(self.num_classes) if self.near_zero_start else None

    def templates(self) -> Tensor:
        """Returns the weights of each hidden unit in the shape of an image, (H, *input_shape)."""
        return self.hidden.weight.detach().unflatten(1, self.input_shape)
