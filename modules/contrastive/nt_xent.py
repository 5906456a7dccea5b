"""NT-Xent, the contrastive loss of SimCLR: classify an image's other view among all views of the batch.

Two views of each of N images are embedded, z_1 … z_N and z_{N+1} … z_{2N}; p(i) is the index of the other view of i:

    ℓ_i = −ln exp(s_{i,p(i)} / τ) / Σ_{k ≠ i} exp(s_{i,k} / τ),      s_{i,k} = z_i·z_k / (‖z_i‖ ‖z_k‖)
    loss = Σ_i ℓ_i / 2N

It is computed as a cross-entropy over the 2N views, with the logit of the view itself at −∞, which does not overflow
at any temperature τ.

In data-parallel training the negatives of a view come from all ranks. Each rank takes the mean over its own views, and
gradients flow back to the views of the others; DDP's mean of them over the ranks is the gradient of the loss of the
global batch.

Source: T. Chen et al., arXiv 2002.05709, equation (1) and algorithm 1.

Shapes: B images on this rank, R ranks, N = R·B images in the global batch, D values of a projection.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import check_range
from modules.base.half_precision import at_least_float32


class NTXent(nn.Module):
    """The normalized, temperature-scaled cross-entropy of two batches of projections.

    Args:
        temperature: Temperature τ, > 0; the smaller it is, the more the nearest negatives count.

    Raises:
        ValueError: If the temperature is not above 0.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        check_range("temperature", temperature, temperature > 0, "> 0, such as 0.5")
        self.temperature = temperature
        self._zero_lengths: Tensor | None = None  # (2,): projections of length 0, and all, in the first step with some

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns the loss of projections of the first views (B, D) and of the second ones (B, D), a float32 scalar.

        It is NaN if a projection has length 0; `check_lengths` explains that.

        Raises:
            ValueError: If there is a single image over all ranks.
        """
        with torch.autocast(first.device.type, enabled=False):  # 8 bits of bfloat16 can't tell near negatives apart
            views = at_least_float32(torch.cat([first, second]))  # (2B, D)
            lengths = torch.linalg.vector_norm(views, dim=1, keepdim=True)
            self._count_zero_lengths(lengths.detach())
            views = views / lengths
            everyone, rank = gather(views)  # (R·2B, D)
            if len(everyone) < 4:
                raise UserError(
                    "NT-Xent got a batch of one image, which has no negatives; use a batch_size of at least 2."
                )
            logits = (views / self.temperature) @ everyone.mT  # (2B, R·2B)
            offset, images = rank * len(views), len(first)  # of this rank's views in all, and its images B
            logits.diagonal(offset).fill_(-torch.inf)
            targets = torch.arange(len(views), device=views.device).roll(images) + offset
            return F.cross_entropy(logits, targets)

    def _count_zero_lengths(self, lengths: Tensor) -> None:
        """Counts the lengths (2B, 1) that are 0 on the device: reading them would make the CPU wait at every step."""
        counts = torch.stack([(lengths == 0).sum(), torch.full((), len(lengths), device=lengths.device)])
        if self._zero_lengths is not None and self._zero_lengths.device == counts.device:
            counts = torch.where(self._zero_lengths[0] > 0, self._zero_lengths, counts)
        self._zero_lengths = counts

    def check_lengths(self) -> None:
        """Raises if a projection since the last check had length 0; all ranks must call it together.

        Raises:
            ValueError: If a projection had length 0.
        """
        if self._zero_lengths is None:
            return
        counts, self._zero_lengths = self._zero_lengths, None
        if _is_distributed():
            dist.all_reduce(counts)  # if a single rank stopped, the others would wait for it
        zero, number = counts.tolist()
        if zero:
            raise UserError(
                f"{zero} of {number} projections have length 0, so their cosine similarity is undefined: the network "
                "has collapsed; use a smaller learning rate or a higher temperature."
            )


def gather(vectors: Tensor) -> tuple[Tensor, int]:
    """Returns the vectors (M, D) of all ranks in order, (R·M, D), differentiable for every rank, and this rank."""
    if not _is_distributed():
        return vectors, 0
    everyone: Tensor = _Gather.apply(vectors)
    return everyone, dist.get_rank()


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    """A differentiable `dist.all_gather`; torch's own one is private."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        everyone = [torch.empty_like(vectors) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, vectors.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Returns the gradients of this rank's vectors, summed over the losses of all ranks."""
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.tensor_split(dist.get_world_size())[dist.get_rank()]
