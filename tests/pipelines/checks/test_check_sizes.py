"""Large networks are checked on fewer examples; mixed images don't count as overfit ones."""

import pytest
import torch
from torch import Tensor

from modules import KNearestNeighbors, SoftmaxRegression, TimmClassifier
from pipelines.checks.check_sizes import LARGE, SMALL, check_sizes
from pipelines.checks.classifier_checks import check_overfitting


def test_sizes_depend_on_the_operations_of_an_image() -> None:
    images = torch.randn(2, 3, 32, 32)
    narrow = {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}
    assert check_sizes(SoftmaxRegression((3, 32, 32), 10), images) == SMALL
    assert check_sizes(KNearestNeighbors((3, 32, 32), 10), images) == SMALL
    assert check_sizes(TimmClassifier((3, 32, 32), 10, "resnet26", options=narrow), images) == SMALL
    assert check_sizes(TimmClassifier((3, 32, 32), 10, "resnet18"), images) == LARGE


class CountedPasses(SoftmaxRegression):
    """Counts its forward passes."""

    passes, mixes = 0, False

    def forward(self, images: Tensor) -> Tensor:
        type(self).passes += 1
        return super().forward(images)

    def training_targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return (images + 0, labels) if self.mixes else (images, labels)


@pytest.mark.parametrize(("mixes", "passes"), [(False, 1), (True, 2)])
def test_a_step_needs_a_second_pass_only_for_mixed_images(mixes: bool, passes: int) -> None:
    torch.manual_seed(0)
    CountedPasses.passes, CountedPasses.mixes = 0, mixes
    steps: list[str] = []
    result = check_overfitting(CountedPasses((3, 4, 4), 3), torch.randn(9, 3, 4, 4), torch.arange(9) % 3, steps.append)
    assert result.passed, result.figures
    assert CountedPasses.passes == passes * len(steps)
