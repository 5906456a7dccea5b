"""Adversarial losses and the gradient penalty against their formulas in numpy, in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modules.gan.gan_losses import LOSSES, LossName, accuracies, adversarial_loss, gradient_penalty

SCORES = np.concatenate([np.linspace(-40, 40, 201), np.random.default_rng(0).normal(0, 3, 200)])


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -x)


DISCRIMINATOR = {
    "bce": lambda r, f: np.mean(-log_sigmoid(r)) + np.mean(-log_sigmoid(-f)),
    "least_squares": lambda r, f: np.mean((r - 1) ** 2) / 2 + np.mean(f**2) / 2,
    "hinge": lambda r, f: np.mean(np.maximum(0, 1 - r)) + np.mean(np.maximum(0, 1 + f)),
    "wasserstein": lambda r, f: np.mean(f) - np.mean(r),
}
GENERATOR = {
    "bce": lambda f: np.mean(-log_sigmoid(f)),
    "least_squares": lambda f: np.mean((f - 1) ** 2) / 2,
    "hinge": lambda f: -np.mean(f),
    "wasserstein": lambda f: -np.mean(f),
}


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_equal_their_formulas(name: LossName) -> None:
    real, fake = SCORES, np.random.default_rng(1).permutation(SCORES) + 0.3
    loss = adversarial_loss(name)
    got = loss.discriminator(torch.from_numpy(real), torch.from_numpy(fake))
    assert got.item() == pytest.approx(DISCRIMINATOR[name](real, fake), abs=1e-10, rel=0)
    assert loss.generator(torch.from_numpy(fake)).item() == pytest.approx(GENERATOR[name](fake), abs=1e-10, rel=0)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_gradient_step_moves_scores_in_the_direction_of_each_loss(name: LossName) -> None:
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    if name == "least_squares":
        with torch.no_grad():
            fake.fill_(0.5)
    LOSSES[name].discriminator(real, fake).backward()
    assert real.grad is not None and (real.grad < 0).all()
    assert fake.grad is not None and (fake.grad > 0).all()
    score = torch.zeros(3, requires_grad=True)
    LOSSES[name].generator(score).backward()
    assert score.grad is not None and (score.grad < 0).all()


def test_bce_neither_overflows_nor_loses_its_gradient_on_fakes_recognized_with_confidence() -> None:
    fake = torch.tensor([-1e4, -30.0], requires_grad=True)
    loss = LOSSES["bce"].generator(fake)
    loss.backward()
    assert loss.item() == pytest.approx((1e4 + 30) / 2)
    assert fake.grad is not None and fake.grad.tolist() == pytest.approx([-0.5, -0.5])


def test_the_saturating_generator_minimizes_what_the_discriminator_maximizes() -> None:
    """Its gradient is −σ(f), which vanishes for fakes recognized with confidence; the loss itself stays finite."""
    loss, usual = adversarial_loss("bce", saturating=True), adversarial_loss("bce")
    fake = torch.from_numpy(SCORES).requires_grad_()
    result = loss.generator(fake)
    assert result.item() == pytest.approx(np.mean(log_sigmoid(-SCORES)), abs=1e-10, rel=0)  # log(1 − σ(f))
    result.backward()
    assert fake.grad is not None
    np.testing.assert_allclose(fake.grad.numpy(), -1 / (1 + np.exp(-SCORES)) / len(SCORES), rtol=1e-9, atol=1e-20)
    real = torch.from_numpy(SCORES)
    assert torch.equal(loss.discriminator(real, fake), usual.discriminator(real, fake))
    assert loss.generator(torch.tensor([-1e4])).item() == 0 and loss.generator(torch.tensor([1e4])).item() == -1e4


@pytest.mark.parametrize("name", ["least_squares", "hinge", "wasserstein"])
def test_losses_without_a_saturating_form_refuse_it(name: LossName) -> None:
    with pytest.raises(ValueError, match=f"saturating is true, but the loss {name} has no saturating form; set loss"):
        adversarial_loss(name, saturating=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bce", (0.75, 0.5)), ("least_squares", (0.5, 0.75)), ("hinge", (0.75, 0.5)), ("wasserstein", (0.5, 0.75))],
)
def test_accuracies_count_scores_on_the_correct_side(name: LossName, expected: tuple[float, float]) -> None:
    """The halfway point of the mean scores, 0.675 and 0.125, is 0.4."""
    real, fake = torch.tensor([0.2, 0.6, 2.0, -0.1]), torch.tensor([-1.0, 0.3, 1.5, -0.3])
    assert tuple(map(float, accuracies(LOSSES[name], real, fake))) == expected


def test_gradient_penalty_equals_the_definition_by_differences() -> None:
    """A critic with a known gradient: D(x) = Σ tanh(w x), so ∂D/∂x = w / cosh²(w x)."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(2, 3, 3))
    real, fake, mix = rng.normal(size=(5, 2, 3, 3)), rng.normal(size=(5, 2, 3, 3)), rng.uniform(size=5)
    w = torch.from_numpy(weights).requires_grad_()

    def penalty(values: np.ndarray) -> float:
        points = mix[:, None, None, None] * real + (1 - mix[:, None, None, None]) * fake
        gradients = values / np.cosh(values * points) ** 2
        return float(np.mean((np.sqrt((gradients**2).sum((1, 2, 3))) - 1) ** 2))

    got = gradient_penalty(lambda x: (w * x).tanh().sum((1, 2, 3)), *map(torch.from_numpy, (real, fake, mix)))
    assert got.item() == pytest.approx(penalty(weights), abs=1e-10)
    got.backward()
    step = np.zeros_like(weights)
    step[1, 2, 0] = 1e-6
    expected = (penalty(weights + step) - penalty(weights - step)) / 2e-6
    assert w.grad is not None and w.grad[1, 2, 0].item() == pytest.approx(expected, rel=1e-6)


def test_gradient_penalty_of_a_critic_without_slope_is_1_and_its_gradient_finite() -> None:
    layer = nn.Linear(4, 1).double()
    nn.init.zeros_(layer.weight)

    def critic(images: Tensor) -> Tensor:
        return layer(images.flatten(1)).squeeze(1)

    images = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    got = gradient_penalty(critic, images, -images, torch.full((3,), 0.5, dtype=torch.float64))
    got.backward()
    assert got.item() == 1
    assert layer.weight.grad is not None and layer.weight.grad.isfinite().all()


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="loss is 'wgan'; it must be one of bce, least_squares, hinge, wasserstein"):
        adversarial_loss("wgan")  # type: ignore[arg-type]
