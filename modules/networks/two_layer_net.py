"""Two-layer network: the smallest neural network, linear scores of ReLU units.

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

from common.errors import UserError
from modules.base.classifier import Classifier
from modules.networks.initialization import check_settings, initialize, penalty, starts_level


class TwoLayerNet(Classifier):
    """One hidden layer of ReLU units, cross-entropy loss and L2 regularization of the weights.

    Args:
        input_shape: shape of one image, D values in all.
        num_classes: K, at least 2.
        hidden_size: H, at least 1.
        reg: λ, strength of the L2 regularization of both weight matrices, at least 0.
        weight_scale: standard deviation of the weights at the start, above 0; None takes He's √(2/D) for the first
            layer, and for the second a tenth of √(2/H), so that all classes start level.

    Raises:
        ValueError: a value out of the range given above.
    """

    class_templates: ClassVar[bool] = False  # whether `templates` has one for each class

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        hidden_size: int = 512,
        reg: float = 1e-3,
        weight_scale: float | None = None,
    ) -> None:
        super().__init__(num_classes)
        if hidden_size < 1:
            raise UserError(f"hidden_size is {hidden_size}; give at least 1 hidden unit.")
        check_settings(reg, weight_scale)
        self.save_hyperparameters(logger=False)
        self.input_shape = tuple(input_shape)
        self.reg = reg
        self.hidden = nn.Linear(prod(self.input_shape), hidden_size)
        self.output = nn.Linear(hidden_size, num_classes)
        initialize([self.hidden, self.output], weight_scale)
        self.level_start = starts_level(weight_scale)
        self.example_input_array = torch.zeros(1, *self.input_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, *input_shape) to logits (B, K)."""
        hidden = self.hidden(images.flatten(1)).relu()  # (B, H)
        logits: Tensor = self.output(hidden)
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy plus ½ λ (‖W₁‖² + ‖W₂‖²): logits (B, K), labels (B,) to a scalar."""
        return F.cross_entropy(logits, labels) + penalty([self.hidden, self.output], self.reg)

    def expected_initial_loss(self) -> float | None:
        """ln K while the weights are small, since all scores are then near 0; unknown otherwise."""
        return log(self.num_classes) if self.level_start else None

    def templates(self) -> Tensor:
        """The weights of each hidden unit, in the shape of an image: (H, *input_shape)."""
        return self.hidden.weight.detach().unflatten(1, self.input_shape)
