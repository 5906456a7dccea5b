"""Generators and discriminators: fully connected, as in the first GAN, and deep convolutional, as in DCGAN.

Generator, from Z latent values to an image in [−1, 1], with width M:

    fully_connected   {affine – normalization – ReLU} × 2, M units each  –  affine  –  tanh
    convolutional     affine to 8M units  –  normalization – ReLU
                      affine to 2M maps of H/4 × W/4  –  normalization – ReLU
                      transposed convolution to M maps of H/2 × W/2  –  normalization – ReLU
                      transposed convolution to C maps of H × W  –  tanh

Discriminator, from an image to a score, higher for images that look real:

    fully_connected   affine – leaky ReLU  –  affine – normalization – leaky ReLU, M units each  –  affine
    convolutional     convolution to M maps of H/2 × W/2  –  leaky ReLU
                      convolution to 2M maps of H/4 × W/4  –  normalization – leaky ReLU
                      affine to 8M units  –  normalization – leaky ReLU  –  affine

All convolutions have 4×4 kernels and stride 2 instead of pooling, so that the networks learn to downsample and
upsample. Since the kernel size is a multiple of the stride, every pixel of a transposed convolution gets equally many
weights, which avoids checkerboard artifacts. The hidden affine layers see the whole image; the receptive field of two
convolutions is 10 pixels wide. Neither the discriminator's first layer nor the last layers are normalized. Weights are
initialized from a normal distribution with standard deviation 0.02; the slope of the leaky ReLU is 0.2.

Sources: I. Goodfellow et al., arXiv 1406.2661; A. Radford, L. Metz, S. Chintala, arXiv 1511.06434; X. Chen et al.,
arXiv 1606.03657 for convolutional networks of MNIST's size; https://distill.pub/2016/deconv-checkerboard/.

Shapes: B images in a batch, C channels, H×W pixels, Z latent values, M width.
"""

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import UserError
from modules.networks.normalization import VectorNorm, image_norm, vector_norm

NetworkKind = Literal["fully_connected", "convolutional"]

_SLOPE = 0.2
_WEIGHT_SCALE = 0.02


class Discriminator(nn.Module):
    """A sequence of layers that maps images (B, C, H, W) to scores (B,)."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.layers(images)  # (B, 1)
        return scores.squeeze(1)


def new_generator(
    kind: NetworkKind, image_shape: tuple[int, ...], latent_size: int, width: int, norm: VectorNorm
) -> nn.Module:
    """Returns a randomly initialized generator, from latents (B, Z) to images (B, C, H, W) in [−1, 1].

    Raises:
        ValueError: If the kind or normalization is unknown, or the image size is not supported.
    """
    if _is_convolutional("generator", kind):
        _check_size(image_shape, "generator")
        channels, (height, length) = image_shape[0], (side // 4 for side in image_shape[1:])
        layers = [
            nn.Linear(latent_size, 8 * width),
            vector_norm(norm, 8 * width),
            nn.ReLU(),
            nn.Linear(8 * width, 2 * width * height * length),
            nn.Unflatten(1, (2 * width, height, length)),  # (B, 2M, H/4, W/4)
            image_norm(norm, 2 * width, groups=1),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),  # (B, M, H/2, W/2)
            image_norm(norm, width, groups=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),  # (B, C, H, W)
        ]
    else:
        layers = [
            nn.Linear(latent_size, width),
            vector_norm(norm, width),
            nn.ReLU(),
            nn.Linear(width, width),
            vector_norm(norm, width),
            nn.ReLU(),
            nn.Linear(width, prod(image_shape)),
            nn.Unflatten(1, image_shape),
        ]
    return _initialized(nn.Sequential(*layers, nn.Tanh()))


def new_discriminator(kind: NetworkKind, image_shape: tuple[int, ...], width: int, norm: VectorNorm) -> nn.Module:
    """Returns a randomly initialized discriminator, from images (B, C, H, W) to scores (B,).

    Raises:
        ValueError: If the kind or normalization is unknown, or the image size is not supported.
    """
    if _is_convolutional("discriminator", kind):
        _check_size(image_shape, "discriminator")
        layers = [
            nn.Conv2d(image_shape[0], width, 4, stride=2, padding=1),  # (B, M, H/2, W/2)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),  # (B, 2M, H/4, W/4)
            image_norm(norm, 2 * width, groups=1),
            nn.LeakyReLU(_SLOPE),
            nn.Flatten(),
            nn.Linear(2 * width * prod(image_shape[1:]) // 16, 8 * width),
            vector_norm(norm, 8 * width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(8 * width, 1),
        ]
    else:
        layers = [
            nn.Flatten(),
            nn.Linear(prod(image_shape), width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, width),
            vector_norm(norm, width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, 1),
        ]
    return _initialized(Discriminator(layers))


def _is_convolutional(name: str, kind: NetworkKind) -> bool:
    if kind not in ("fully_connected", "convolutional"):
        raise UserError(f"{name} is {kind!r}; it must be fully_connected or convolutional.")
    return kind == "convolutional"


def _check_size(image_shape: tuple[int, ...], name: str) -> None:
    if any(side % 4 or side < 8 for side in image_shape[1:]):
        raise UserError(
            f"A convolutional {name} doubles or halves images twice, so height and width must be multiples of 4, at "
            f"least 8, but the data has {image_shape[1]}×{image_shape[2]} pixels; set {name} to fully_connected."
        )


def _initialized(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=_WEIGHT_SCALE)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network.to(memory_format=torch.channels_last)
