"""Adversarial losses of the discriminator D and the generator G.

Both are means over a batch of scores r = D(x) of real images x and f = D(G(z)) of generated ones; σ is the sigmoid.

                  discriminator                                  generator        source
    bce           −log σ(r) − log(1 − σ(f))                      −log σ(f)        I. Goodfellow et al., arXiv 1406.2661
    least_squares ½ (r − 1)² + ½ f²                              ½ (f − 1)²       X. Mao et al., arXiv 1611.04076
    hinge         max(0, 1 − r) + max(0, 1 + f)                  −f               J. H. Lim, J. C. Ye, arXiv 1705.02894
    wasserstein   f − r                                          −f               M. Arjovsky et al., arXiv 1701.07875

`bce` is the paper's non-saturating form. In the saturating one G minimizes log(1 − σ(f)), its part of the objective
that D maximizes. Its gradient is −σ(f), nearly 0 for fakes that D recognizes with confidence, where that of −log σ(f)
is σ(f) − 1, nearly −1. log σ is computed from the score, so that it neither overflows nor becomes log 0.

The other losses have no second form: G's part of the objective of `wasserstein` is the one above, D and G of
`least_squares` minimize two objectives, and in that of `hinge`, −max(0, 1 + f), scores below −1 have no gradient.

`wasserstein` needs a critic with Lipschitz constant 1. WGAN-GP enforces it by a penalty on D's gradient at points
between fake and real images:

    λ (‖∇D(x̂)‖ − 1)²,    x̂ = ε x + (1 − ε) G(z),    ε uniform in [0, 1] for each image

The penalty is on gradients of single images, so D must not have batch normalization, which mixes the images of a batch.
Source: I. Gulrajani et al., arXiv 1704.00028.

Shapes: B images in a batch, C channels, H×W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import UserError
from modules.base.half_precision import at_least_float32

LossName = Literal["bce", "least_squares", "hinge", "wasserstein"]


@dataclass(frozen=True)
class AdversarialLoss:
    """Losses of discriminator and generator: a row of the table above.

    Attributes:
        of_real: Loss of D for the score r of each real image.
        of_fake: Loss of D for the score f of each generated image.
        of_generator: Loss of G for the score f of each generated image.
        boundary: Score at which D considers real and generated equally likely; None if there is no such score.
    """

    of_real: Callable[[Tensor], Tensor]
    of_fake: Callable[[Tensor], Tensor]
    of_generator: Callable[[Tensor], Tensor]
    boundary: float | None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Returns the loss of D, a scalar, of scores (B,) of real and of generated images."""
        return self.of_real(at_least_float32(real)).mean() + self.of_fake(at_least_float32(fake)).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Returns the loss of G, a scalar, of scores (B,) of generated images."""
        return self.of_generator(at_least_float32(fake)).mean()


LOSSES: dict[LossName, AdversarialLoss] = {
    "bce": AdversarialLoss(
        of_real=lambda r: -F.logsigmoid(r),
        of_fake=lambda f: -F.logsigmoid(-f),
        of_generator=lambda f: -F.logsigmoid(f),
        boundary=0.0,
    ),
    "least_squares": AdversarialLoss(
        of_real=lambda r: 0.5 * (r - 1).square(),
        of_fake=lambda f: 0.5 * f.square(),
        of_generator=lambda f: 0.5 * (f - 1).square(),
        boundary=0.5,
    ),
    "hinge": AdversarialLoss(
        of_real=lambda r: F.relu(1 - r),
        of_fake=lambda f: F.relu(1 + f),
        of_generator=lambda f: -f,
        boundary=0.0,
    ),
    "wasserstein": AdversarialLoss(
        of_real=lambda r: -r,
        of_fake=lambda f: f,
        of_generator=lambda f: -f,
        boundary=None,
    ),
}


def adversarial_loss(name: LossName, saturating: bool = False) -> AdversarialLoss:
    """Returns the losses of that name.

    Args:
        name: Name of the loss.
        saturating: Whether G minimizes log(1 − σ(f)), for bce only.

    Raises:
        ValueError: If the name is unknown or the loss has no saturating form.
    """
    if name not in LOSSES:
        raise UserError(f"loss is {name!r}; it must be one of {', '.join(LOSSES)}.")
    loss = LOSSES[name]
    if not saturating:
        return loss
    if name != "bce":
        raise UserError(
            f"saturating is true, but the loss {name} has no saturating form; set loss to bce or saturating to false."
        )
    return replace(loss, of_generator=lambda f: -loss.of_fake(f))


def accuracies(loss: AdversarialLoss, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the accuracies of D, two scalars, on real and on generated images with scores (B,).

    For a loss without boundary, it lies halfway between the mean scores.
    """
    real, fake = at_least_float32(real), at_least_float32(fake)
    boundary = loss.boundary if loss.boundary is not None else (real.mean() + fake.mean()) / 2
    return (real > boundary).float().mean(), (fake <= boundary).float().mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Returns the mean of (‖∇D(x̂)‖ − 1)², a scalar with gradients for the critic's weights; multiply it by λ.

    Args:
        critic: D, which maps images (B, C, H, W) to scores (B,).
        real: Real images (B, C, H, W).
        fake: Generated images (B, C, H, W).
        mix: ε of each image, (B,) in [0, 1].
    """
    points = torch.lerp(fake, real, mix.reshape(-1, 1, 1, 1)).detach().requires_grad_()  # x̂
    (gradients,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    # Unlike √Σg², vector_norm has a gradient where all g are 0.
    norms = torch.linalg.vector_norm(at_least_float32(gradients).flatten(1), dim=1)  # (B,)
    return (norms - 1).square().mean()
