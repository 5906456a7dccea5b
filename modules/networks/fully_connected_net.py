"""Fully connected network of any depth, with normalization and dropout.

    {affine – normalization – ReLU – dropout} × (number of hidden layers)  –  affine  –  softmax

    affine          a = W h + b
    normalization   none, batch or layer: `normalization.py`
    ReLU            max(0, a)
    dropout         h = m ⊙ a / p in training, each element of m being 1 with probability p and else 0; h = a in
                    evaluation ("inverted dropout"). p is the probability of keeping a unit: dropout = 1 − p.
    loss            mean over images of −log softmax(s)_y  +  ½ λ Σ ‖W‖² over all layers

Sources: https://cs231n.github.io/neural-networks-2/ for dropout, initialization and regularization;
N. Srivastava et al., "Dropout", JMLR 15 (2014); K. He et al., arXiv 1502.01852 for √(2/n).

The course's update rules are torch's optimizers, chosen with `--optimizer Adam --optimizer.lr 1e-3`; their formulas are
in `modules/optimizers/update_rules.py`, and docs/optimizers.md compares them on this network.

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
from common.ranges import check_range
from modules.base.classifier import Classifier
from modules.networks.initialization import check_settings, initialize, l2_penalty, starts_near_zero
from modules.networks.normalization import ONE_IMAGE, VectorNorm, vector_norm


class FullyConnectedNet(Classifier):
    """Hidden layers of ReLU units with optional normalization and dropout.

    Args:
        input_shape: Shape of one image of D values.
        num_classes: Number of classes K, ≥ 2.
        hidden_sizes: Units of each hidden layer, each ≥ 1; an empty list gives softmax regression.
        normalization: Normalization before each ReLU: none, batch or layer.
        dropout: Probability of dropping a unit, in [0, 1); the course's p is 1 − dropout.
        reg: Strength λ of the L2 regularization of all weight matrices, ≥ 0.
        weight_scale: Standard deviation of the initial weights, > 0; None takes He's √(2/fan-in), and a tenth of it in
            the last layer, so that all classes start with nearly equal scores.

    Raises:
        ValueError: If a value is out of its range, or batch normalization gets a training batch of one image.
    """

    class_templates: ClassVar[bool] = False  # `templates` returns one per unit, not per class
    stackable: ClassVar[frozenset[str]] = frozenset({"dropout", "reg", "weight_scale"})

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
        valid = all(size >= 1 for size in hidden_sizes)
        check_range("hidden_sizes", list(hidden_sizes), valid, "at least 1 unit for each hidden layer")
        check_settings(reg, weight_scale, dropout)
        self.save_hyperparameters(logger=False)
        self.input_shape = tuple(input_shape)
        self.normalization = normalization
        self.reg: float | Tensor = reg  # a tensor in a stack of models with different λ
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
        self.near_zero_start = starts_near_zero(weight_scale)
        self.example_input_array = torch.zeros(2, *self.input_shape)

    @property
    def affine(self) -> list[nn.Linear]:
        """Affine layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, K) of images (B, *input_shape)."""
        if self.training and self.normalization == "batch" and len(images) == 1:
            raise UserError(ONE_IMAGE)
        logits: Tensor = self.layers(images.flatten(1))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns cross-entropy plus ½ λ Σ ‖W‖², a scalar, of logits (B, K) and labels (B,)."""
        loss = F.cross_entropy(logits, labels)
        if not isinstance(self.reg, Tensor) and self.reg == 0:  # the penalty reads every weight
            return loss
        return loss + l2_penalty(self.affine, self.reg)

    def expected_initial_loss(self) -> float | None:
        """Returns ln K if the initial weights are small, since all scores are then near 0; None otherwise."""
        return log(self.num_classes) if self.near_zero_start else None

    def templates(self) -> Tensor:
        """Returns the weights of each unit of the first layer in the shape of an image, (units, *input_shape)."""
        return self.affine[0].weight.detach().unflatten(1, self.input_shape)
