"""A GAN in one dimension: its densities against references, the pictures of a run, and the accuracies over a resume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde, wasserstein_distance
from torch import nn

from callbacks import DiscriminatorAccuracy, GeneratedDensity
from callbacks.discriminator_accuracy import accuracy_picture
from callbacks.generated_density import densities, density_picture, kernel_density, wasserstein
from datamodules import Digits, GaussianMixture
from modules import GAN, SoftmaxRegression
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

SETTINGS: dict[str, Any] = {
    "input_shape": (1, 1, 1), "generator": "fully_connected", "discriminator": "fully_connected", "latent_size": 1,
    "generator_width": 16, "discriminator_width": 16, "generator_norm": "none", "generator_lr": 3e-3,
    "discriminator_lr": 1e-2, "discriminator_steps": 2, "ema_decay": 0.0,
}  # fmt: skip


def gan(**settings: Any) -> GAN:
    torch.manual_seed(0)
    return GAN(**{**SETTINGS, **settings})


def test_the_distance_equals_scipys_for_samples_of_different_sizes() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(300, generator=generator), 0.5 + 2 * torch.randn(170, generator=generator)
    assert wasserstein(first, second) == pytest.approx(wasserstein_distance(first.numpy(), second.numpy()))
    assert wasserstein(first, first) == 0 and wasserstein(first, first + 0.25) == pytest.approx(0.25)


def test_the_density_of_samples_equals_scipys() -> None:
    samples = torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    reference = gaussian_kde(samples.numpy(), bw_method=0.02 / float(samples.std()))
    np.testing.assert_allclose(kernel_density(samples, x), reference(x.numpy()), rtol=1e-9)


def test_what_is_drawn_is_the_models_own() -> None:
    model, data = gan(), GaussianMixture()
    identity = nn.Linear(1, 1, bias=False)
    nn.init.ones_(identity.weight)
    model.generator = nn.Sequential(identity, nn.Unflatten(1, (1, 1, 1)), nn.Tanh())  # G(z) = tanh z
    drawn = densities(model, data.density, 20_000)
    assert model.discriminator.training
    torch.testing.assert_close(drawn.samples, drawn.latents.tanh(), rtol=1e-5, atol=1e-6)
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(normal.cdf(drawn.latents).diff(), torch.full((32,), 1 / 34, dtype=torch.float64))
    inner = drawn.x[100:300]  # density of tanh z by the change of variables
    exact = normal.log_prob(inner.atanh()).exp() / (1 - inner**2)
    torch.testing.assert_close(drawn.generated[100:300], exact, rtol=0.15, atol=0.02)
    assert drawn.discriminator is not None
    score = model.discriminator(drawn.x[7].float().view(1, 1, 1, 1)).sigmoid()
    assert float(drawn.discriminator[7]) == pytest.approx(float(score.detach()), rel=1e-5)
    assert densities(gan(loss="hinge"), data.density, 100).discriminator is None


def test_a_run_learns_the_data_draws_and_animates(tmp_path: Path) -> None:
    data = GaussianMixture(num_train=10_000, num_val=1000, batch_size=250)
    callbacks = [GeneratedDensity(every_n_epochs=2, num_samples=1000), DiscriminatorAccuracy()]
    trainer = trainer_of(tmp_path, *callbacks, max_epochs=4, log_every_n_steps=20, num_sanity_val_steps=0)
    model = gan()
    data.setup("fit")
    untrained = wasserstein(data.splits["val"][0].flatten(), 2 * model.sample(1000).double().flatten() - 1)
    trainer.fit(model, data)
    assert float(trainer.callback_metrics["val/wasserstein"]) < untrained / 2
    folder = tmp_path / "pictures"
    assert sorted(file.name for file in (folder / "density").iterdir()) == ["00000080.png", "00000160.png"]
    assert (folder / "density.gif").stat().st_size > 1000
    assert [point[0] for point in callbacks[1].curves] == [20, 40, 60, 80, 100, 120, 140, 160]  # type: ignore[attr-defined]
    assert float(trainer.callback_metrics["train/accuracy_real"]) == callbacks[1].curves[-1][1]  # type: ignore[attr-defined]
    (result,) = trainer.test(model, data, verbose=False)
    assert 0 < result["test/wasserstein"] < untrained / 2


def test_a_resumed_run_keeps_the_accuracies_before(tmp_path: Path) -> None:
    first, second = DiscriminatorAccuracy(), DiscriminatorAccuracy()
    for epochs, callback, checkpoint in ((1, first, None), (2, second, "last.ckpt")):
        trainer = trainer_of(tmp_path, callback, max_epochs=epochs, log_every_n_steps=10, limit_val_batches=0)
        path = None if checkpoint is None else tmp_path / checkpoint
        trainer.fit(gan(), GaussianMixture(num_train=1000, batch_size=50), ckpt_path=path, weights_only=True)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert second.curves[:2] == first.curves and [point[0] for point in second.curves] == [10, 20, 30, 40]


def test_pictures_show_all_curves() -> None:
    def share(picture: np.ndarray, color: tuple[int, int, int]) -> float:
        return float((np.abs(picture.astype(int) - color) < 40).all(2).mean())

    density = density_picture(densities(gan(), GaussianMixture().density, 500), "title")
    accuracy = accuracy_picture([(10, 0.9, 0.8), (20, 0.6, 0.5)])
    for picture in (density, accuracy):
        assert all(share(picture, color) > 1e-4 for color in ((31, 119, 180), (44, 160, 44)))


def test_refusals(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match="SoftmaxRegression has no discriminator whose accuracy could be drawn"):
        DiscriminatorAccuracy().setup(trainer, SoftmaxRegression((1, 8, 8), 10), "fit")
    with pytest.raises(ValueError, match="every_n_epochs is 0; it must be at least 1"):
        GeneratedDensity(every_n_epochs=0)
    one = trainer_of(tmp_path, GeneratedDensity(), max_epochs=1)
    with pytest.raises(ValueError, match="but the data is Digits and latent_size 4; use GaussianMixture"):
        one.fit(gan(input_shape=(1, 8, 8), latent_size=4), Digits(preprocessing="scale"))
    two = trainer_of(tmp_path, GeneratedDensity(), max_epochs=1)
    with pytest.raises(ValueError, match="but the data is GaussianMixture and latent_size 2; use GaussianMixture"):
        two.fit(gan(latent_size=2), GaussianMixture(num_train=600))
