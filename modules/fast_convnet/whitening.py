"""A first convolution that whitens patches of the images: its outputs have variance 1 and no correlation.

    Σ = mean of (p − m)(p − m)ᵀ over the patches p of the training images        covariance, D×D with D = C·k·k
    Σ = U Λ Uᵀ                                                                  eigenvectors, eigenvalues
    filters  W = (Λ + ε)^(−½) Uᵀ, and −W after them                             2D of them

Neighboring pixels are nearly equal, so most of a patch's variance lies along a few directions and a plain convolution
learns slowly along the others. Whitened, all directions are equally loud from the first step. −W is there for the
nonlinearity that follows, which keeps one sign of each. The filters stay as they are; a bias alone is learned.

Sources: K. Jordan, arXiv 2404.00498, section 3.1, after D. Page's and T. Balsam's fast CIFAR-10 trainings; whitening:
https://cs231n.github.io/neural-networks-2/#datapre

Shapes: N images, C channels, H×W pixels, k side of a patch, D = C·k·k.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError

_CHUNK = 500  # images whose patches are held at a time


class Whitening(nn.Module):
    """Whitens patches of k×k pixels: (B, C, H, W) to (B, 2D, H − k + 1, W − k + 1).

    Before `fit` the filters are ± each pixel of the patch.

    Args:
        channels: C, at least 1.
        kernel_size: k, at least 1.
        epsilon: ε, added to each variance, so that directions which hold next to nothing are not blown up.

    Raises:
        ValueError: a value out of the range given above.
    """

    weight: Tensor  # (2D, C, k, k); a buffer, so that it is in checkpoints and no optimizer touches it

    def __init__(self, channels: int, kernel_size: int = 2, epsilon: float = 5e-4) -> None:
        super().__init__()
        if channels < 1 or kernel_size < 1:
            raise UserError(f"Whitening got {channels} channels and kernel_size {kernel_size}; give at least 1 each.")
        if not epsilon >= 0:
            raise UserError(f"epsilon is {epsilon}; give a variance of 0 or more, such as 5e-4.")
        self.epsilon = epsilon
        basis = torch.eye(channels * kernel_size**2).reshape(-1, channels, kernel_size, kernel_size)
        self.register_buffer("weight", torch.cat([basis, -basis]).contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.zeros(len(self.weight)))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to maps (B, 2D, H − k + 1, W − k + 1)."""
        return F.conv2d(images, self.weight, self.bias)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Fits the filters to the patches of images (N, C, H, W).

        Raises:
            ValueError: images with another number of channels, or not more patches than a patch has values.
        """
        dimensions, (channels, side) = len(self.weight) // 2, self.weight.shape[1:3]
        if images.ndim != 4 or images.shape[1] != channels:
            raise UserError(
                f"Whitening takes images (C, H, W) with {channels} channels, but these have shape "
                f"{tuple(images.shape[1:])}; give a preprocessing that keeps them images, such as standardize."
            )
        patches = len(images) * max(0, images.shape[2] - side + 1) * max(0, images.shape[3] - side + 1)
        if patches <= dimensions:
            raise UserError(
                f"Whitening patches of {side}×{side} pixels with {channels} channels takes more than {dimensions} "
                f"patches, one for each of their values, but the images have {patches}; give more or larger images."
            )
        covariance = patch_covariance(images, side)
        variances, directions = torch.linalg.eigh(covariance)  # directions in columns
        # The sign of an eigenvector is arbitrary: fix it, so that every rank and machine gets the same filters.
        directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        filters = (directions / (variances.clamp(min=0) + self.epsilon).sqrt()).mT.reshape(-1, channels, side, side)
        self.weight.copy_(torch.cat([filters, -filters]))


def patch_covariance(images: Tensor, side: int) -> Tensor:
    """Covariance of all patches of `side`×`side` pixels of images (N, C, H, W): (D, D) float64."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for chunk in images.split(_CHUNK):
        patches = F.unfold(chunk.double(), side).movedim(1, 0).flatten(1)  # (D, patches)
        count += patches.shape[1]
        total = total + patches.sum(1)
        products = products + patches @ patches.mT
    mean = total / count
    return products / count - mean.outer(mean)
