"""Ranges of a GAN's settings, and the conditions on its data and batches."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import UserError
from common.messages.counting import count
from common.ranges import check_range

_AT_LEAST_1 = ("latent_size", "generator_width", "discriminator_width", "discriminator_steps", "generator_steps")


def check_gan_settings(settings: Mapping[str, Any]) -> None:
    """Refuses arguments of `GAN` that are out of range or exclude each other.

    Raises:
        ValueError: If a value is out of its range, or loss, penalty and normalization do not go together.
    """
    if len(settings["input_shape"]) != 3:
        shape = tuple(settings["input_shape"])
        raise UserError(f"A GAN generates images (C, H, W), but the data has shape {shape}; use preprocessing scale.")
    for name in _AT_LEAST_1:
        check_range(name, settings[name], settings[name] >= 1, "at least 1")
    for name in ("generator_lr", "discriminator_lr"):
        check_range(name, settings[name], settings[name] > 0, "> 0")
    for name in ("beta1", "beta2", "ema_decay"):
        check_range(name, settings[name], 0 <= settings[name] < 1, "in [0, 1)")
    penalty, clip_norm = settings["gradient_penalty"], settings["clip_norm"]
    check_range("gradient_penalty", penalty, penalty >= 0, "≥ 0")
    check_range("clip_norm", clip_norm, clip_norm is None or clip_norm > 0, "> 0, or null for no clipping")
    if settings["loss"] == "wasserstein" and not penalty:
        raise UserError("loss is wasserstein, which needs a gradient penalty; set gradient_penalty, to 10 for example.")
    if penalty and settings["discriminator_norm"] == "batch":
        raise UserError(
            f"gradient_penalty is {penalty}, which needs gradients of single images, but discriminator_norm is batch, "
            "which mixes them; set discriminator_norm to layer or none."
        )


def check_training(optimizers: Sequence[Any], data: Any) -> None:
    """Refuses a run whose optimizers or preprocessing do not suit a GAN.

    Raises:
        ValueError: If one optimizer was given for both networks, or images are not scaled to [−1, 1].
    """
    if len(optimizers) != 2:
        raise UserError(
            "A GAN has one optimizer for each network, but one was given for both; remove optimizer and set "
            "model.generator_lr, model.discriminator_lr, model.beta1 and model.beta2."
        )
    method = getattr(getattr(data, "preprocessing", None), "method", "scale")
    if method != "scale":
        raise UserError(f"A GAN generates images in [−1, 1], but preprocessing is {method}; set it to scale.")


def check_batch(number: int, steps: int) -> None:
    """Refuses a batch with fewer than 2 images for each discriminator step.

    Raises:
        ValueError: If the batch is too small.
    """
    if number < 2 * steps:
        raise UserError(
            f"A batch of {count(number, 'image')} is too small for {count(steps, 'discriminator step')}; use a "
            "batch_size of at least "
            f"{2 * steps}."
        )
