"""Generative adversarial networks: a generator learns to make images that a discriminator can't tell from real ones.

    z ~ N(0, I)    G(z) an image in [−1, 1]    D(x) a score, the larger the more real

An iteration takes one batch of real images and makes

    P steps of the discriminator, each on its own share of the batch and as many new fakes: D learns to tell them apart
    Q steps of the generator, each on new fakes: G learns to get real scores from the D of that moment

and counts as one step of the run, whatever P and Q are: `max_steps`, checkpoints and every plot's x axis mean
iterations. At the end of a good training neither side wins: both accuracies of the discriminator come down to 50 %.

Samples are drawn from an average of the generator's weights over its last iterations: `weight_average.py`.

Source: I. Goodfellow et al., arXiv 1406.2661, Algorithm 1; losses: `gan_losses.py`; networks: `gan_networks.py`.

    python -m pipelines.train fit --config dcgan        # or gan, lsgan
    python -m pipelines.sample logs/dcgan/RUN -n 64 --out samples.png

With several devices each makes fakes for its own share of the batch, and a step's gradients are averaged over all, as
if one had made the whole step; batch normalization sees a device's share alone unless --trainer.sync_batchnorm true.

Shapes: B images in a batch, C channels, H×W pixels, Z latent values, N images to make.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from common.errors import UserError
from modules.base.finite_loss import FiniteLossGuard
from modules.base.multi_optimizer_module import MultiOptimizerModule
from modules.gan.gan_losses import LossName, accuracies, adversarial_loss, gradient_penalty
from modules.gan.gan_networks import NetworkKind, new_discriminator, new_generator
from modules.interpretation.feature_extraction import evaluating
from modules.networks.normalization import VectorNorm
from modules.optimizers.weight_average import WeightAverage

_CHUNK = 1000  # images made at a time


class GAN(MultiOptimizerModule):
    """A generator and a discriminator that are trained against each other by Adam.

    Args:
        input_shape: (C, H, W) of the images.
        loss: bce, least_squares, hinge or wasserstein.
        generator: fully_connected or convolutional.
        discriminator: fully_connected or convolutional.
        latent_size: Z, at least 1.
        generator_width: units of a hidden layer, or maps at half the image's size, at least 1.
        discriminator_width: the same of the discriminator.
        generator_norm: none, batch or layer.
        discriminator_norm: none, batch or layer; not batch with a gradient penalty.
        discriminator_steps: P, at least 1; a batch has at least 2 images for each.
        generator_steps: Q, at least 1.
        generator_lr: learning rate of the generator, above 0.
        discriminator_lr: learning rate of the discriminator, above 0.
        beta1: Adam's decay of the mean gradient, in [0, 1).
        beta2: Adam's decay of the mean squared gradient, in [0, 1).
        gradient_penalty: λ of WGAN-GP's penalty, at least 0; wasserstein needs it, such as 10.
        clip_norm: longest gradient of a network, above 0; longer ones are shortened to it. None leaves all.
        ema_decay: of the average that samples are drawn from, in [0, 1); 0 takes the generator as it is.

    Raises:
        ValueError: a value out of the range given above, an image size that a network can't make, images that are not
            in [−1, 1], a batch with less than 2 images for a step; while training, a loss that is no finite number.
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
    ) -> None:
        super().__init__()
        if len(input_shape) != 3:
            raise UserError(
                f"A GAN makes images (C, H, W), but the data has shape {tuple(input_shape)}; give preprocessing scale."
            )
        _check("latent_size", latent_size, latent_size >= 1, "at least 1")
        for name, width in (("generator_width", generator_width), ("discriminator_width", discriminator_width)):
            _check(name, width, width >= 1, "at least 1")
        for name, steps in (("discriminator_steps", discriminator_steps), ("generator_steps", generator_steps)):
            _check(name, steps, steps >= 1, "at least 1")
        for name, rate in (("generator_lr", generator_lr), ("discriminator_lr", discriminator_lr)):
            _check(name, rate, rate > 0, "a learning rate above 0")
        for name, decay in (("beta1", beta1), ("beta2", beta2), ("ema_decay", ema_decay)):
            _check(name, decay, 0 <= decay < 1, "a number from 0 up to, but not, 1")
        _check("gradient_penalty", gradient_penalty, gradient_penalty >= 0, "0 or more")
        _check("clip_norm", clip_norm, clip_norm is None or clip_norm > 0, "a length above 0, or leave it out")
        if loss == "wasserstein" and not gradient_penalty:
            raise UserError("loss is wasserstein without a gradient penalty; give gradient_penalty, such as 10.")
        if gradient_penalty and discriminator_norm == "batch":
            raise UserError(
                f"gradient_penalty is {gradient_penalty} and discriminator_norm is batch, which mixes the images that "
                "the penalty looks at one by one; give discriminator_norm layer or none."
            )
        self.save_hyperparameters(logger=False)
        self.losses = adversarial_loss(loss)
        self.latent_size = latent_size
        self.discriminator_steps, self.generator_steps = discriminator_steps, generator_steps
        self.rates = generator_lr, discriminator_lr
        self.betas = beta1, beta2
        self.gradient_penalty = gradient_penalty
        self.clip_norm = clip_norm
        self.generator = new_generator(generator, input_shape, latent_size, generator_width, generator_norm)
        self.discriminator = new_discriminator(discriminator, input_shape, discriminator_width, discriminator_norm)
        # Batch norm would normalize real images by figures of the fakes beside them, and so give away which are which.
        self._one_pass = discriminator_norm != "batch"
        self.average = WeightAverage(self.generator, ema_decay) if ema_decay else None
        self._divergence = FiniteLossGuard(["discriminator's loss", "generator's loss"])

    def configure_optimizers(self) -> list[Optimizer]:  # type: ignore[override]  # two, not one
        """Adam for the generator and Adam for the discriminator."""
        networks = (self.generator, self.discriminator)
        return [
            torch.optim.Adam(network.parameters(), lr=rate, betas=self.betas)
            for network, rate in zip(networks, self.rates, strict=True)
        ]

    def on_fit_start(self) -> None:
        if len(self.trainer.optimizers) != 2:
            raise UserError(
                "A GAN brings an optimizer for each of its networks, but one was given for all; leave --optimizer out "
                "and set model.generator_lr, model.discriminator_lr, model.beta1 and model.beta2."
            )
        data = getattr(self.trainer, "datamodule", None)
        method = getattr(getattr(data, "preprocessing", None), "method", "scale")
        if method != "scale":
            raise UserError(
                f"A GAN makes images in [−1, 1], but preprocessing is {method}; give --data.preprocessing scale."
            )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images = batch[0]
        if len(images) < 2 * self.discriminator_steps:
            raise UserError(
                f"A batch of {len(images)} images is too small for {self.discriminator_steps} discriminator steps; "
                f"give a batch_size of at least {2 * self.discriminator_steps}."
            )
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        figures = []
        for turn in range(self.discriminator_steps):
            # Every P-th image, so that the step's images are the same however many processes share the batch.
            loss, real, fake = self._tell_apart(images[turn :: self.discriminator_steps])
            self.take_step(discriminator_optimizer, loss)
            figures.append(torch.stack([loss.detach(), *accuracies(self.losses, real, fake)]))
        loss_d, accuracy_real, accuracy_fake = torch.stack(figures).mean(0)
        self.discriminator.requires_grad_(False)  # its gradients would be of no use here
        losses, number = [], len(images) // self.discriminator_steps
        for turn in range(self.generator_steps):
            loss = self.losses.generator(_full(self.discriminator(self._fakes(number))))
            self.take_step(generator_optimizer, loss, counts=turn == self.generator_steps - 1)
            losses.append(loss.detach())
        self.discriminator.requires_grad_(True)
        loss_g = torch.stack(losses).mean()
        self._divergence.keep(torch.stack([loss_d, loss_g]))
        self.count_training_batch(
            1, loss_d=loss_d, loss_g=loss_g, accuracy_real=accuracy_real, accuracy_fake=accuracy_fake
        )
        if self.average is not None:
            self.average.update(self.generator, self.global_step)

    def _tell_apart(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of the discriminator on real images (B, C, H, W) and as many fakes, and its scores, (B,) each."""
        with torch.no_grad():
            fakes = self._fakes(len(images))
        images = images.to(fakes.dtype)
        if self._one_pass:
            scores = self.discriminator(torch.cat([images, fakes]))
            real, fake = _full(scores).chunk(2)
        else:
            real, fake = _full(self.discriminator(images)), _full(self.discriminator(fakes))
        loss = self.losses.discriminator(real, fake)
        if self.gradient_penalty:
            mix = self.draw(torch.rand, len(images))
            with torch.autocast(self.device.type, enabled=False):  # half precision is not up to a second derivative
                penalty = gradient_penalty(self.discriminator, _full(images), _full(fakes), mix)
            loss = loss + self.gradient_penalty * penalty
        return loss, real.detach(), fake.detach()

    def _fakes(self, number: int) -> Tensor:
        images: Tensor = self.generator(self.draw(torch.randn, number, self.latent_size))
        return images

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Here gradients are as they will be used: averaged over processes, and no longer scaled for half precision.
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, self.clip_norm, "norm")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer: Any = self.trainer  # its attributes are set where mypy does not look
        if self.global_step % (trainer.log_every_n_steps or 50) == 0:
            self._stop_if_diverged()
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_validation_epoch_start(self) -> None:
        self._stop_if_diverged()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._stop_if_diverged()  # or the last good checkpoint would be overwritten

    def _stop_if_diverged(self) -> None:
        self._divergence.stop(self.trainer, {"generator": self.generator, "discriminator": self.discriminator})

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Nothing: callbacks.SampleQuality judges samples when the validation epoch ends."""

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Nothing, as in validation."""

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        raise UserError("A GAN has nothing to predict of images; make some with python -m pipelines.sample RUN.")

    def latents(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        """Random latents (N, Z), the same on every device if `generator` is one of the CPU's."""
        return torch.randn(number, self.latent_size, generator=generator).to(next(self.generator.parameters()))

    @torch.no_grad()
    def generate(self, latents: Tensor) -> Tensor:
        """Latents (N, Z) to images (N, C, H, W), pixels in [0, 1], by the average of the generator."""
        network = self.generator if self.average is None else self.average
        with evaluating(network):
            images = torch.cat([network(chunk) for chunk in latents.split(_CHUNK)])
        return (_full(images) + 1) / 2

    def sample(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        """New images (N, C, H, W), pixels in [0, 1]."""
        return self.generate(self.latents(number, generator))


def _full(tensor: Tensor) -> Tensor:
    """Half precision as float32, in which sums over a batch keep their digits; float64 stays."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _check(name: str, value: object, valid: bool, accepted: str) -> None:
    if not valid:
        raise UserError(f"{name} is {value}; give {accepted}.")
