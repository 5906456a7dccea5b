"""Generative adversarial networks (GANs): a generator learns to make images that a discriminator can't tell from real.

    z ~ N(0, I),    G(z) an image in [−1, 1],    D(x) a score, higher for images that look real

Both play for one objective, with means over real images x and latents z; σ is the sigmoid:

    min_G max_D   E_x log σ(D(x)) + E_z log(1 − σ(D(G(z))))

For the best D of a given G it is largest if both kinds of images can be told apart, 0, and smallest, −2 ln 2, if they
have the same distribution. In practice G minimizes another loss, which keeps its gradient while D is ahead:

    loss of D    −log σ(D(x)) − log(1 − σ(D(G(z))))    classify real images x and generated ones
    loss of G    −log σ(D(G(z)))                       have D classify generated images as real: non-saturating
              or  log(1 − σ(D(G(z))))                  the objective itself, with the setting `saturating`

These are the losses of the setting `bce`; `gan_losses.py` has all of them, `gan_networks.py` the networks. An iteration
takes a batch of real images:

    P steps of the discriminator, each on its part of the batch and as many new fakes
    Q steps of the generator, each on new fakes scored by the updated D

It counts as one step of the run for any P and Q, so `max_steps`, checkpoints and x axes mean iterations. If training
succeeds, neither side wins: both accuracies of the discriminator approach 50 %.

Samples come from an exponential moving average of the generator's weights (`weight_average.py`).

Source: I. Goodfellow et al., arXiv 1406.2661, equation (1), theorem 1 and algorithm 1.

    python -m pipelines.train fit --config dcgan        # or gan, lsgan, gan_1d
    python -m pipelines.sample logs/dcgan/RUN -n 64 --out samples.png

With several devices, each makes fakes for its part of the batch and gradients are averaged, as if one device had
computed the whole step; batch normalization sees a device's part only, unless trainer.sync_batchnorm is true.

Shapes: B images in a batch, C channels, H×W pixels, Z latent values, N generated images.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from common.errors import UserError
from modules.base.finite_loss import FiniteLossGuard
from modules.base.half_precision import at_least_float32
from modules.base.multi_optimizer_module import MultiOptimizerModule
from modules.gan.gan_losses import LossName, accuracies, adversarial_loss, gradient_penalty
from modules.gan.gan_networks import NetworkKind, new_discriminator, new_generator
from modules.gan.gan_settings import check_batch, check_gan_settings, check_training
from modules.interpretation.feature_extraction import evaluating
from modules.networks.normalization import VectorNorm
from modules.optimizers.weight_average import WeightAverage

_CHUNK = 1000  # images generated at a time


class GAN(MultiOptimizerModule):
    """A generator and a discriminator that Adam trains against each other.

    Args:
        input_shape: Shape (C, H, W) of the images.
        loss: Adversarial loss: bce, least_squares, hinge or wasserstein.
        generator: Kind of the generator: fully_connected or convolutional.
        discriminator: Kind of the discriminator: fully_connected or convolutional.
        latent_size: Number of latent values Z, ≥ 1.
        generator_width: Units of a hidden layer, or channels at half the image size, ≥ 1.
        discriminator_width: The same for the discriminator.
        generator_norm: Normalization in the generator: none, batch or layer.
        discriminator_norm: Normalization in the discriminator: none, batch or layer; not batch with a gradient penalty.
        discriminator_steps: Discriminator steps P of an iteration, ≥ 1; each needs at least 2 images of the batch.
        generator_steps: Generator steps Q of an iteration, ≥ 1.
        generator_lr: Learning rate of the generator, > 0.
        discriminator_lr: Learning rate of the discriminator, > 0.
        beta1: Adam's decay rate of the first moment, in [0, 1).
        beta2: Adam's decay rate of the second moment, in [0, 1).
        gradient_penalty: Weight λ of the gradient penalty of WGAN-GP, ≥ 0; the loss wasserstein needs it, such as 10.
        clip_norm: Norm to which the gradients of a network are clipped, > 0; None does not clip.
        ema_decay: Decay of the average of the generator that samples come from, in [0, 1); 0 uses the generator itself.
        saturating: Whether the generator minimizes log(1 − σ(D(G(z)))), for the loss bce only.

    Raises:
        ValueError: If a value is out of its range, a network can't have the image size, images are not in [−1, 1], or a
            batch is too small; in training, if a loss is not finite.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        loss: LossName = "bce",
        generator: NetworkKind = "convolutional",
        discriminator: NetworkKind = "convolutional",
        latent_size: int = 64,
        generator_width: int = 64,
        discriminator_width: int = 64,
        generator_norm: VectorNorm = "batch",
        discriminator_norm: VectorNorm = "none",
        discriminator_steps: int = 1,
        generator_steps: int = 1,
        generator_lr: float = 2e-4,
        discriminator_lr: float = 2e-4,
        beta1: float = 0.5,
        beta2: float = 0.999,
        gradient_penalty: float = 0.0,
        clip_norm: float | None = None,
        ema_decay: float = 0.999,
        saturating: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_gan_settings(self.hparams)
        self.losses = adversarial_loss(loss, saturating)
        self.latent_size = latent_size
        self.discriminator_steps, self.generator_steps = discriminator_steps, generator_steps
        self.rates = generator_lr, discriminator_lr
        self.betas = beta1, beta2
        self.gradient_penalty = gradient_penalty
        self.clip_norm = clip_norm
        self.generator = new_generator(generator, input_shape, latent_size, generator_width, generator_norm)
        self.discriminator = new_discriminator(discriminator, input_shape, discriminator_width, discriminator_norm)
        # With batch norm, real and fake images in one batch would share statistics, which give away which are which.
        self._one_pass = discriminator_norm != "batch"
        self.average = WeightAverage(self.generator, ema_decay) if ema_decay else None
        self._finite_losses = FiniteLossGuard(["discriminator's loss", "generator's loss"])

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that training logs."""
        return ("train/loss_d", "train/loss_g", "train/accuracy_real", "train/accuracy_fake")

    def configure_optimizers(self) -> list[Optimizer]:  # type: ignore[override]  # two, not one
        """Returns Adam for the generator and Adam for the discriminator."""
        networks = (self.generator, self.discriminator)
        return [
            torch.optim.Adam(network.parameters(), lr=rate, betas=self.betas)
            for network, rate in zip(networks, self.rates, strict=True)
        ]

    def on_fit_start(self) -> None:
        check_training(self.trainer.optimizers, getattr(self.trainer, "datamodule", None))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images = batch[0]
        check_batch(len(images), self.discriminator_steps)
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        metrics = []
        for turn in range(self.discriminator_steps):
            # Every P-th image: a step then has the same images for any number of processes.
            loss, real, fake = self.discriminator_loss(images[turn :: self.discriminator_steps])
            self.take_step(discriminator_optimizer, loss)
            metrics.append(torch.stack([loss.detach(), *accuracies(self.losses, real, fake)]))
        loss_d, accuracy_real, accuracy_fake = torch.stack(metrics).mean(0)
        self.discriminator.requires_grad_(False)  # its gradients are not needed here
        losses, number = [], len(images) // self.discriminator_steps
        for turn in range(self.generator_steps):
            loss = self.generator_loss(number)
            self.take_step(generator_optimizer, loss, counts=turn == self.generator_steps - 1)
            losses.append(loss.detach())
        self.discriminator.requires_grad_(True)
        loss_g = torch.stack(losses).mean()
        self._finite_losses.record(torch.stack([loss_d, loss_g]))
        self.count_training_batch(
            1, loss_d=loss_d, loss_g=loss_g, accuracy_real=accuracy_real, accuracy_fake=accuracy_fake
        )
        if self.average is not None:
            self.average.update(self.generator, self.global_step)

    def discriminator_loss(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the discriminator's loss on real images (B, C, H, W) and as many fakes, and its scores (B,)."""
        with torch.no_grad():
            fakes = self._fakes(len(images))
        images = images.to(fakes.dtype)
        if self._one_pass:
            scores = self.discriminator(torch.cat([images, fakes]))
            real, fake = scores.chunk(2)
        else:
            real, fake = self.discriminator(images), self.discriminator(fakes)
        loss = self.losses.discriminator(real, fake)
        if self.gradient_penalty:
            mix = self.draw(torch.rand, len(images)).to(at_least_float32(fakes).dtype)
            with torch.autocast(self.device.type, enabled=False):  # second derivatives need full precision
                penalty = gradient_penalty(self.discriminator, at_least_float32(images), at_least_float32(fakes), mix)
            loss = loss + self.gradient_penalty * penalty
        return loss, real.detach(), fake.detach()

    def generator_loss(self, number: int) -> Tensor:
        """Returns the generator's loss, a scalar, on new fakes."""
        return self.losses.generator(self.discriminator(self._fakes(number)))

    def _fakes(self, number: int) -> Tensor:
        """Returns images (N, C, H, W) in [−1, 1] of new random latents."""
        latents = self.draw(torch.randn, number, self.latent_size)
        images: Tensor = self.generator(latents.to(next(self.generator.parameters()).dtype))
        return images

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Here the gradients are averaged over ranks and no longer scaled for half precision.
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, self.clip_norm, "norm")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer: Any = self.trainer  # some of its attributes are unknown to mypy
        if self.global_step % (trainer.log_every_n_steps or 50) == 0:
            self._check_losses()
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_validation_epoch_start(self) -> None:
        self._check_losses()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._check_losses()  # before the last good checkpoint is overwritten
        super().on_save_checkpoint(checkpoint)

    def _check_losses(self) -> None:
        self._finite_losses.check(self.trainer, {"generator": self.generator, "discriminator": self.discriminator})

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Does nothing: `callbacks.SampleQuality` evaluates samples when the validation epoch ends."""

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Does nothing, as in validation."""

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        raise UserError("A GAN does not predict; generate images with python -m pipelines.sample RUN.")

    def latents(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        """Returns random latents (N, Z); a CPU `generator` gives the same ones on every device."""
        return torch.randn(number, self.latent_size, generator=generator).to(next(self.generator.parameters()))

    @torch.no_grad()
    def generate(self, latents: Tensor) -> Tensor:
        """Returns images (N, C, H, W) with pixels in [0, 1] for latents (N, Z), from the average of the generator."""
        network = self.generator if self.average is None else self.average
        with evaluating(network):
            images = torch.cat([network(chunk) for chunk in latents.split(_CHUNK)])
        return (at_least_float32(images) + 1) / 2

    def sample(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        """Returns new images (N, C, H, W) with pixels in [0, 1]."""
        return self.generate(self.latents(number, generator))
