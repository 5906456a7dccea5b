"""Fooling images fool the network as stored, stay within their bound, and change no further once they do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules import ConvNet
from modules.interpretation.fooling_images import fool


class Brightness(nn.Module):
    """Class 1 if the mean pixel is above a threshold: score 0 against mean − threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        above = images.mean((1, 2, 3)) - self.threshold
        return torch.stack([torch.zeros_like(above), above], 1)


class Fixed(nn.Module):
    """Scores that do not depend on the image: always class 0."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.mean((1, 2, 3)) * 0
        return torch.stack([flat + 1, flat], 1)


@pytest.fixture(scope="module")
def network() -> ConvNet:
    torch.manual_seed(0)
    model = ConvNet((3, 16, 16), 5, [8, 16], 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images, labels = torch.rand(200, 3, 16, 16), torch.arange(200) % 5
    images[torch.arange(200), labels % 3] += 0.2 * (1 + labels[:, None, None] // 3)
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(model(images), labels).backward()
        optimizer.step()
    return model.eval()


def test_steps_have_the_given_size_and_stop_once_the_network_is_fooled() -> None:
    images = torch.full((3, 1, 4, 4), 51 / 255)
    images[1] = 102 / 255
    images[2] = 204 / 255
    reported: list[tuple[int, int]] = []
    result = fool(
        Brightness(0.5),
        images,
        torch.ones(3, dtype=torch.int64),
        step=10 / 255,
        report=lambda *progress: reported.append(progress),
    )
    # The gradient is the same in every pixel, so a step is 10 levels everywhere: 51 + 8 · 10 > 127.5, 102 + 3 · 10 too.
    assert result.succeeded.tolist() == [True, True, True]
    assert result.steps.tolist() == [8, 3, 0]
    assert (result.images * 255).round().flatten(1).unique(dim=1).flatten().tolist() == [131, 132, 204]
    torch.testing.assert_close(result.largest * 255, torch.tensor([80.0, 30, 0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(result.l2 * 255, torch.tensor([320.0, 120, 0]), atol=1e-3, rtol=0)
    assert reported == [(1, 2), (2, 2), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 0)]


def test_stored_images_fool_the_network(network: ConvNet) -> None:
    images = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    targets = (network(images).argmax(1) + torch.randint(1, 5, (40,))) % 5
    result = fool(network, images, targets, max_steps=300)
    assert result.succeeded.float().mean() > 0.9
    read = (result.images * 255).round().to(torch.uint8).float() / 255
    assert torch.equal(read, result.images)
    assert torch.equal(network(read).argmax(1) == targets, result.succeeded)
    assert (result.steps[result.succeeded] >= 1).all() and (result.steps[~result.succeeded] == 300).all()
    torch.testing.assert_close(result.images - result.change, (images * 255).round() / 255)


def test_the_bound_holds_and_images_that_it_protects_are_reported_as_unsuccessful(network: ConvNet) -> None:
    images = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    targets = (network(images).argmax(1) + 1) % 5
    for bound in (1 / 255, 0.0213):
        result = fool(network, images, targets, step=0.01, max_steps=20, bound=bound)
        assert float((result.images - images).abs().max()) <= bound + 1e-6
        assert float(result.images.min()) >= 0 and float(result.images.max()) <= 1
    assert not fool(Brightness(0.9), images, torch.ones(20, dtype=torch.int64), bound=0.01).succeeded.any()


def test_a_network_with_constant_predictions() -> None:
    result = fool(Fixed(), torch.rand(2, 1, 4, 4), torch.tensor([1, 0]), max_steps=5)
    assert result.succeeded.tolist() == [False, True]
    assert result.steps.tolist() == [5, 0]
    assert not result.change.any()


def test_a_batch_equals_its_images_one_by_one(network: ConvNet) -> None:
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    targets = (network(images).argmax(1) + 1) % 5
    batch = fool(network, images, targets)
    for i in range(6):
        alone = fool(network, images[i : i + 1], targets[i : i + 1])
        assert int(alone.steps) == int(batch.steps[i])
        assert float((alone.images[0] - batch.images[i]).abs().max()) <= 1.01 / 255  # rounding may differ by a level


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"step": 0.0}, "step is 0.0; it must be > 0"),
        ({"max_steps": 0}, "max_steps is 0; it must be at least 1"),
        ({"bound": -0.1}, "bound is -0.1; it must be > 0"),
    ],
)
def test_values_out_of_range(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fool(Fixed(), torch.rand(1, 1, 4, 4), torch.tensor([1]), **settings)
