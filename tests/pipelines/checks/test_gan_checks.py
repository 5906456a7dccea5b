"""The checks of GANs: correct ones pass all of them, and each kind of bug fails the check made for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules import GAN
from pipelines.checks.gan_checks import run_gan_checks
from pipelines.checks.sanity_checkable import Result, Split
from tests.pipelines.checks.wrong_backward import WrongBackward

NAMES = ["initial loss", "gradients", "parameters", "overfitting", "splits"]


def new_gan(**settings: Any) -> GAN:
    chosen = {"generator": "fully_connected", "discriminator": "fully_connected", "generator_width": 32}
    return GAN((1, 8, 8), **{**chosen, "discriminator_width": 32, "latent_size": 8, **settings})


def results_of(gan: GAN) -> dict[str, Result]:
    torch.manual_seed(0)
    images = torch.rand(60, 1, 8, 8).round() * 2 - 1
    splits = {"train": (images, torch.zeros(60, dtype=torch.int64)), "val": (-images[:20], torch.zeros(20).long())}
    batches: Callable[[Split], Split] = lambda batch: batch  # noqa: E731
    return {result.name: result for result in run_gan_checks(gan, splits, batches)}


@pytest.mark.parametrize(
    ("loss", "saturating"),
    [("bce", False), ("bce", True), ("least_squares", False), ("hinge", False), ("wasserstein", False)],
)
def test_correct_gans_pass(loss: str, saturating: bool) -> None:
    torch.manual_seed(1)
    gan = new_gan(loss=loss, saturating=saturating, gradient_penalty=10.0 if loss == "wasserstein" else 0.0)
    results = results_of(gan)
    assert {name: result.passed for name, result in results.items()} == dict.fromkeys(NAMES, True), results
    if loss == "bce":
        assert results["initial loss"].figures.startswith("D 1.38")  # 2 ln 2 = 1.3863


class WrongLayer(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = WrongBackward.apply(values)
        return result


class Forgotten(nn.Module):
    """A parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, values: Tensor) -> Tensor:
        return values


def twice_the_loss(gan: GAN) -> None:
    losses = gan.losses
    gan.losses = replace(losses, of_real=lambda r: 2 * losses.of_real(r), of_fake=lambda f: 2 * losses.of_fake(f))


def confident(gan: GAN) -> None:
    gan.discriminator = nn.Sequential(gan.discriminator, _Scaled())


class _Scaled(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return 50_000 * values


def append(network: str, layer: Callable[[], nn.Module]) -> Callable[[GAN], None]:
    return lambda gan: setattr(gan, network, nn.Sequential(getattr(gan, network), layer()))


@pytest.mark.parametrize(
    ("spoil", "failed", "says"),
    [
        (twice_the_loss, "initial loss", "D 2.7"),
        (confident, "initial loss", " from 0 (limit 0.5)"),
        (append("discriminator", WrongLayer), "gradients", "D largest relative error 9.1e-02"),
        (append("generator", WrongLayer), "gradients", "G largest relative error 9.1e-02"),
        (append("discriminator", Forgotten), "parameters", "get no gradient: gan.discriminator.1.scale"),
        (append("generator", Forgotten), "parameters", "get no gradient: gan.generator.1.scale"),
    ],
)
def test_each_bug_fails_the_check_made_for_it(spoil: Callable[[GAN], None], failed: str, says: str) -> None:
    torch.manual_seed(1)
    gan = new_gan()
    spoil(gan)
    results = results_of(gan)
    assert results[failed].passed is False, results
    assert says in results[failed].figures


def test_a_discriminator_that_sees_nothing_fails_overfitting() -> None:
    gan = new_gan()
    gan.discriminator = nn.Sequential(_Constant(), gan.discriminator)
    result = results_of(gan)["overfitting"]
    assert result.passed is False and result.figures.endswith("(limit 98%)")


class _Constant(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images * 0
