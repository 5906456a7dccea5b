"""NT-Xent: each view of an image must find the image's other view among all views of the batch.

Of N images two views each are embedded, z_1 … z_N and z_{N+1} … z_{2N}, and p(i) is the place of the other view of i:

    ℓ_i = −ln exp(s_{i,p(i)} / τ) / Σ_{k ≠ i} exp(s_{i,k} / τ),      s_{i,k} = z_i·z_k / (‖z_i‖ ‖z_k‖)
    loss = Σ_i ℓ_i / 2N

That is a cross-entropy over the 2N views with the view itself at −∞, so it can't overflow at any temperature τ.

Under data-parallel training a view's negatives are those of all processes. Each process takes the mean over its own
views, and gradients flow back to the views of the others: their mean over the processes, which is what DDP takes, is
the gradient of the loss of the whole batch.

Source: T. Chen et al., arXiv 2002.05709, equation (1) and algorithm 1.

Shapes: B images on this process, R processes, N = R·B images in the global batch, D values of a projection.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError


class NTXent(nn.Module):
    """The normalized, temperature-scaled cross-entropy of two batches of projections.

    Args:
        temperature: τ, above 0; the smaller it is, the more the nearest negatives count.

    Raises:
        ValueError: a temperature that is not above 0.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        if not temperature > 0:
            raise UserError(f"temperature is {temperature}; give a number above 0, such as 0.5.")
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The loss of projections of the first views (B, D) and of the second ones (B, D): a scalar in float32.

        Raises:
            ValueError: a single image over all processes, or a projection of length 0.
        """
        with torch.autocast(first.device.type, enabled=False):  # 8 bits of bfloat16 can't tell near negatives apart
            views = torch.cat([first, second])
            views = unit_vectors(views if views.dtype == torch.float64 else views.float())  # (2B, D)
            everyone, rank = gather(views)  # (R·2B, D)
            if len(everyone) < 4:
                raise UserError(
                    "NT-Xent got a batch of one image, which has no other image to be told apart from; give a "
                    "batch_size of 2 or more."
                )
            logits = (views / self.temperature) @ everyone.mT  # (2B, R·2B)
            mine, images = rank * len(views), len(first)
            logits.diagonal(mine).fill_(-torch.inf)
            targets = torch.arange(len(views), device=views.device).roll(images) + mine
            return F.cross_entropy(logits, targets)


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors (M, D) divided by their lengths.

    Raises:
        ValueError: a vector of length 0.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    if not lengths.all():  # a GPU waits here once a step, or a collapsed network would train on NaN unseen
        raise UserError(
            f"{int((lengths == 0).sum())} of {len(vectors)} projections have the length 0, and so no direction to "
            "compare: the network has collapsed; give a smaller learning rate or a higher temperature."
        )
    return vectors / lengths


def gather(vectors: Tensor) -> tuple[Tensor, int]:
    """The vectors (M, D) of all processes in order, (R·M, D), with gradients to each, and the place of this process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return vectors, 0
    everyone: Tensor = _Gather.apply(vectors)
    return everyone, dist.get_rank()


class _Gather(torch.autograd.Function):
    """`dist.all_gather` loses the gradient; torch's own differentiable one is private."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        everyone = [torch.empty_like(vectors) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, vectors.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """What all processes' losses say about the vectors of this one: the sum of their gradients."""
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.tensor_split(dist.get_world_size())[dist.get_rank()]
