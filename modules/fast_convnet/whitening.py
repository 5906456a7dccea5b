"""A first convolution that whitens patches of the images: its outputs have variance 1 and are uncorrelated.

    Σ = mean of (p − m)(p − m)ᵀ over the patches p of the training images        covariance, D×D with D = C·k·k
    Σ = U Λ Uᵀ                                                                  eigenvectors, eigenvalues
    filters  W = (Λ + ε)^(−½) Uᵀ, followed by −W                                2D filters

Neighboring pixels are nearly equal, so most of a patch's variance lies along a few directions, and an ordinary
convolution learns slowly along the others. Whitening gives all directions equal variance from the first step. −W is
there because the nonlinearity that follows keeps one sign of each output. The filters are fixed; only a bias is
trained.

Sources: K. Jordan, arXiv 2404.00498, section 3.1, after D. Page's and T. Balsam's fast CIFAR-10 trainings; whitening:
https://cs231n.github.io/neural-networks-2/#datapre

Shapes: N images, C channels, H×W pixels, k side of a patch, D = C·k·k.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import check_range

_CHUNK = 500  # images whose patches are held at a time


class Whitening(nn.Module):
    """Whitens patches of k×k pixels: (B, C, H, W) to (B, 2D, H − k + 1, W − k + 1).

    Before `fit`, the filters return each pixel of the patch and its negative.

    Args:
        channels: Number of channels C, ≥ 1.
        kernel_size: Side k of a patch, ≥ 1.
        epsilon: ε added to each variance, ≥ 0, so that directions with almost no variance are not amplified.

    Raises:
        ValueError: If a value is out of its range.
    """

    weight: Tensor  # (2D, C, k, k); a buffer, so that checkpoints contain it and no optimizer changes it

    def __init__(self, channels: int, kernel_size: int = 2, epsilon: float = 5e-4) -> None:
        super().__init__()
        check_range("channels", channels, channels >= 1, "at least 1")
        check_range("kernel_size", kernel_size, kernel_size >= 1, "at least 1")
        check_range("whitening_epsilon", epsilon, epsilon >= 0, "≥ 0, such as 5e-4")
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
            ValueError: If the images have another number of channels, or at most D patches in all.
        """
        dimensions, (channels, side) = len(self.weight) // 2, self.weight.shape[1:3]
        if images.ndim != 4 or images.shape[1] != channels:
            raise UserError(
                f"Whitening takes images (C, H, W) with {channels} channels, but these have shape "
                f"{tuple(images.shape[1:])}; choose a preprocessing that keeps them images, such as standardize."
            )
        patches = len(images) * max(0, images.shape[2] - side + 1) * max(0, images.shape[3] - side + 1)
        if patches <= dimensions:
            raise UserError(
                f"Whitening patches of {side}×{side} pixels with {channels} channels takes more than {dimensions} "
                f"patches, the number of their values, but the images have {patches}; give more or larger images."
            )
        covariance = patch_covariance(images, side)
        variances, directions = torch.linalg.eigh(covariance)  # directions in columns
        # The sign of an eigenvector is arbitrary; it is fixed so that every rank and machine gets the same filters.
        directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        filters = (directions / (variances.clamp(min=0) + self.epsilon).sqrt()).mT.reshape(-1, channels, side, side)
        self.weight.copy_(torch.cat([filters, -filters]))


def patch_covariance(images: Tensor, side: int) -> Tensor:
    """Returns the covariance of all patches of `side`×`side` pixels of images (N, C, H, W): (D, D) float64."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for chunk in images.split(_CHUNK):
        patches = F.unfold(chunk.double(), side).movedim(1, 0).flatten(1)  # (D, patches)
        count += patches.shape[1]
        total = total + patches.sum(1)
        products = products + patches @ patches.mT
    mean = total / count
    return products / count - mean.outer(mean)
