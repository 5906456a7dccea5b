"""Saliency is the gradient, SmoothGrad its mean under noise, and integrated gradients sum to the score."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modules import ConvNet, KNearestNeighbors
from modules.interpretation.saliency import class_scores, integrated_gradients, saliency, score_gradient, smooth_grad

LABELS = torch.tensor([2, 0, 3])


@pytest.fixture(scope="module")
def network() -> ConvNet:
    """A small network in float64, trained to predict which part of an image is bright."""
    torch.manual_seed(0)
    model = ConvNet((3, 8, 8), 4, [5, 6], 1).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images, labels = torch.rand(64, 3, 8, 8, dtype=torch.float64), torch.arange(64) % 4
    for i, label in enumerate(labels.tolist()):
        images[i, label % 3, 4 * (label // 2) : 4 * (label // 2) + 4] += 1
    for _ in range(30):
        optimizer.zero_grad()
        model.loss(model(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Linear(nn.Module):
    """Scores w·x, whose gradient is w for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3 * 6 * 5, dtype=torch.float64), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.mT

    def weights_of(self, label: int) -> Tensor:
        return self.weight[label].reshape(3, 6, 5)


def test_saliency_equals_finite_differences(network: ConvNet, images: Tensor) -> None:
    step = 1e-6
    steps = step * torch.eye(3 * 8 * 8, dtype=torch.float64).reshape(-1, 3, 8, 8)
    maps = saliency(network, images, LABELS)
    assert maps.shape == (3, 8, 8)
    for image, label, saliency_map in zip(images, LABELS.tolist(), maps, strict=True):
        with torch.no_grad():
            slopes = (network(image + steps) - network(image - steps))[:, label] / (2 * step)
        expected = slopes.reshape(3, 8, 8).abs().amax(0)
        assert float((saliency_map - expected).abs().max() / expected.max()) < 1e-4


def test_a_batch_equals_its_images_one_by_one(network: ConvNet, images: Tensor) -> None:
    alone = torch.cat([saliency(network, images[i : i + 1], LABELS[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(saliency(network, images, LABELS), alone, rtol=1e-10, atol=1e-14)


def test_gradients_work_in_inference_mode_and_are_not_accumulated(network: ConvNet, images: Tensor) -> None:
    expected = score_gradient(network, images, LABELS)
    with torch.inference_mode():
        inside = score_gradient(network, images.clone(), LABELS.clone())
    assert torch.equal(inside, expected)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not images.requires_grad


def test_smooth_grad_is_the_mean_gradient_under_noise_relative_to_the_range(network: ConvNet, images: Tensor) -> None:
    generator = torch.Generator().manual_seed(7)
    total = np.zeros((3, 3, 8, 8))
    for _ in range(5):
        drawn = torch.randn(images.shape, generator=generator).double()
        for i, image in enumerate(images):
            noisy = image + 0.2 * (image.max() - image.min()) * drawn[i]
            total[i] += score_gradient(network, noisy[None], LABELS[i : i + 1])[0].numpy()
    found = smooth_grad(network, images, LABELS, noise=0.2, samples=5, seed=7)
    np.testing.assert_allclose(found.numpy(), np.abs(total / 5).max(1), rtol=1e-9)


def test_integrated_gradients_are_complete_within_one_percent(network: ConvNet, images: Tensor) -> None:
    for baseline in (0.0, images.roll(1, 0)):
        empty = torch.as_tensor(baseline, dtype=torch.float64).expand_as(images)
        with torch.no_grad():
            labels = (
                (network(images) - network(empty)).abs().argmax(1)
            )  # a difference near 0 would be mostly rounding error
            difference = class_scores(network, images, labels) - class_scores(network, empty, labels)
        found = integrated_gradients(network, images, labels, baseline, steps=256)
        assert found.shape == images.shape
        assert ((found.flatten(1).sum(1) - difference).abs() < 0.01 * difference.abs()).all()


def test_a_linear_model_is_attributed_exactly() -> None:
    model, images = Linear(), torch.rand(2, 3, 6, 5, dtype=torch.float64)
    labels = torch.tensor([1, 3])
    weights = torch.stack([model.weights_of(1), model.weights_of(3)])
    torch.testing.assert_close(score_gradient(model, images, labels), weights)
    torch.testing.assert_close(smooth_grad(model, images, labels, samples=3), weights.abs().amax(1))
    torch.testing.assert_close(integrated_gradients(model, images, labels, 0.25, 3), weights * (images - 0.25))


def test_models_without_gradients_or_logits_are_refused() -> None:
    neighbors = KNearestNeighbors((3, 6, 5), 4, k=1, k_max=1).eval()
    neighbors.memorize(torch.rand(8, 3, 6, 5), torch.arange(8) % 4)
    images, labels = torch.rand(2, 3, 6, 5), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="scores of KNearestNeighbors have no gradient with respect to the pixels"):
        saliency(neighbors, images, labels)
    with pytest.raises(ValueError, match=r"Conv2d returns shape \(2, 4, 4, 3\) instead of logits \(B, K\)"):
        saliency(nn.Conv2d(3, 4, 3), images, labels)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"noise": 0.0}, "noise is 0.0; it must be > 0"),
        ({"noise": float("nan")}, "noise is nan; it must be > 0"),
        ({"samples": 0}, "samples is 0; it must be at least 1"),
    ],
)
def test_values_out_of_range(settings: dict[str, float], sentence: str, images: Tensor) -> None:
    with pytest.raises(ValueError, match=sentence):
        smooth_grad(Linear(), images, LABELS, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        integrated_gradients(Linear(), images, LABELS, steps=0)
