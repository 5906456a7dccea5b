"""A model that draws random numbers in every training step, for tests of exact resume."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import Classifier


class NoisyNet(Classifier):
    """Two layers with dropout and batch norm: its weights depend on every random draw and every batch seen."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(num_classes)
        width = int(torch.tensor(input_shape).prod())
        self.net = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(32, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)
