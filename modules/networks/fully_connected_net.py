"""Fully connected network of any depth, with normalization and dropout.

    {affine – normalization – ReLU – dropout} × (number of hidden layers)  –  affine  –  softmax

    affine          a = W h + b
    normalization   none, batch or layer: `normalization.py`
    ReLU            max(0, a)
    dropout         h = m ⊙ a / p in training, each element of m being 1 with probability p and else 0; h = a in
                    evaluation ("inverted": nothing is left to scale then). p is the probability of keeping a unit.
    loss            mean over images of −log softmax(s)_y  +  ½ λ Σ ‖W‖² over all layers

Sources: https://cs231n.github.io/neural-networks-2/ for dropout, initialization and regularization;
N. Srivastava et al., "Dropout", JMLR 15 (2014); K. He et al., arXiv 1502.01852 for √(2/n).

The course's update rules are torch's optimizers, chosen on the command line with --optimizer NAME --optimizer.KEY:

    SGD                      w ← w − η g
    SGD, momentum μ          v ← μ v + g,  w ← w − η v        (the course's v is −η times this one: same steps)
    RMSprop, alpha γ, eps ε  c ← γ c + (1 − γ) g²,  w ← w − η g / (√c + ε)
    Adam, betas β₁ β₂        m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,
                             w ← w − η m̂ / (√v̂ + ε)  with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)

Source: https://cs231n.github.io/neural-networks-3/#update

    python -m pipelines.train fit --config fc_net

Shapes: B images in a batch, D values in an image, K classes.
"""

from collections.abc import Sequence
from math import log, prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.base.classifier import Classifier
from modules.networks.initialization import check_settings, initialize, penalty, starts_level
from modules.networks.normalization import ONE_IMAGE, VectorNorm, vector_norm


class FullyConnectedNet(Classifier):
    """Hidden layers of ReLU units with optional normalization and dropout.

    Args:
        input_shape: shape of one image, D values in all.
        num_classes: K, at least 2.
        hidden_sizes: units of each hidden layer, each at least 1; none makes it softmax regression.
        normalization: none, batch or layer, before each ReLU.
        dropout: Probability of dropping a unit, in [0, 1). The course's p is the probability of keeping it, 1 − dropout.
        reg: λ, strength of the L2 regularization of all weight matrices, at least 0.
        weight_scale: standard deviation of the weights at the start, above 0; None takes He's √(2/fan-in), and a tenth
            of it in the last layer, so that all classes start level.

    Raises:
        ValueError: a value out of the range given above; a training batch of one image with batch normalization.
    """

    class_templates: ClassVar[bool] = False  # whether `templates` has one for each class

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        hidden_sizes: Sequence[int] = (512, 512),
        normalization: VectorNorm = "none",
        dropout: float = 0.0,
        reg: float = 0.0,
        weight_scale: float | None = None,
    ) -> None:
        super().__init__(num_classes)
        if any(size < 1 for size in hidden_sizes):
            raise UserError(f"hidden_sizes is {list(hidden_sizes)}; give at least 1 unit for each hidden layer.")
        check_settings(reg, weight_scale, dropout)
        self.save_hyperparameters(logger=False)
        self.input_shape = tuple(input_shape)
        self.normalization = normalization
        self.reg = reg
        sizes = [prod(self.input_shape), *hidden_sizes]
        layers: list[nn.Module] = []
        for fan_in, width in zip(sizes, hidden_sizes, strict=False):
            layers += [
                nn.Linear(fan_in, width),
                vector_norm(normalization, width),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))
        initialize(self.affine, weight_scale)
        self.level_start = starts_level(weight_scale)
        self.example_input_array = torch.zeros(2, *self.input_shape)

    @property
    def affine(self) -> list[nn.Linear]:
        """The affine layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, *input_shape) to logits (B, K)."""
        if self.training and self.normalization == "batch" and len(images) == 1:
            raise UserError(ONE_IMAGE)
        logits: Tensor = self.layers(images.flatten(1))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy plus ½ λ Σ ‖W‖²: logits (B, K), labels (B,) to a scalar."""
        loss = F.cross_entropy(logits, labels)
        return loss + penalty(self.affine, self.reg) if self.reg else loss  # it reads every weight once more

    def expected_initial_loss(self) -> float | None:
        """ln K while the weights are small, since all scores are then near 0; unknown otherwise."""
        return log(self.num_classes) if self.level_start else None

    def templates(self) -> Tensor:
        """The weights of each unit of the first layer, in the shape of an image: (units, *input_shape)."""
        return self.affine[0].weight.detach().unflatten(1, self.input_shape)
