"""Fooling images: a change too small to see that makes a network take an image for a class of one's choice.

    x ← x + η √D g / ‖g‖₂,    g = ∂s_t/∂x at the stored image,    until argmax_k s_k = t

Gradient ascent on the score of the target class t, with steps of one size whatever the size of the gradient: η is the
root mean square of a step's change over the D values of an image. The network always sees the image as a file would
store it, rounded to 256 levels, so what is returned still fools after it was saved. An optional bound keeps every
value within ±ε of the original.

Sources: I. Goodfellow et al., arXiv 1412.6572; C. Szegedy et al., arXiv 1312.6199;
https://cs231n.github.io/assignments2022/assignment3/ (network visualization: fooling images)

    python -m pipelines.interpret fooling --ckpt logs/convnet/RUN --images cat.png --class truck --out fooled

Shapes: B images in a batch, C channels, H×W pixels, D = C·H·W, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.errors import UserError
from modules.interpretation.saliency import score_gradient

Report = Callable[[int, int], None]  # told the step and how many images are not yet fooled

_LEVELS = 255  # steps between black and white in a file


@dataclass(frozen=True)
class Fooled:
    """What became of a batch.

    Attributes:
        images: (B, C, H, W) in [0, 1], on the levels that 8 bits have.
        succeeded: (B,) bool, whether the network takes each for its target.
        steps: (B,) int64, steps that each took; 0 for one that was taken for its target from the start.
        change: (B, C, H, W), what was added to the originals.
    """

    images: Tensor
    succeeded: Tensor
    steps: Tensor
    change: Tensor

    @property
    def l2(self) -> Tensor:
        """(B,) Euclidean length of the change."""
        return self.change.flatten(1).norm(dim=1)

    @property
    def largest(self) -> Tensor:
        """(B,) L∞ size of the change: its largest absolute value."""
        return self.change.flatten(1).abs().amax(1)


def fool(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    step: float = 0.001,
    max_steps: int = 200,
    bound: float | None = None,
    report: Report = lambda step, left: None,
) -> Fooled:
    """Changes images until the network takes each for its target, all of a batch at once.

    Args:
        model: pixels in [0, 1] to logits, in evaluation mode; `layers.taking_pixels` puts a preprocessing before it.
        images: (B, C, H, W) in [0, 1].
        targets: the classes t, (B,).
        step: η, above 0.
        max_steps: give an image up after so many, at least 1.
        bound: ε, the most by which a value may change, above 0; None leaves it free within [0, 1].
        report: told after each step how many images are left.

    Raises:
        ValueError: a value out of the range given above, or a model without gradients.
    """
    if not step > 0 or max_steps < 1:
        raise UserError(f"step is {step} and max_steps is {max_steps}; give a step above 0 and at least 1 step.")
    if bound is not None and not bound > 0:
        raise UserError(f"bound is {bound}; give a largest change above 0, such as 0.03, or leave it out.")
    low, high = torch.zeros_like(images), torch.ones_like(images)
    if bound is not None:
        # To whole levels inwards, or rounding could pass the bound.
        low = ((images - bound).clamp(min=0) * _LEVELS - 1e-4).ceil() / _LEVELS
        high = ((images + bound).clamp(max=1) * _LEVELS + 1e-4).floor() / _LEVELS
    original = _stored(images)
    current, stored = images.clone(), original.clone()
    steps = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    with torch.no_grad():
        left = (model(stored).argmax(1) != targets).nonzero().flatten()  # places of those not yet fooled, (b,)
    for number in range(1, max_steps + 1):
        if not len(left):
            break
        gradient = score_gradient(model, stored[left], targets[left])  # (b, C, H, W)
        rms = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
        moved = current[left] + step * gradient / rms.clamp(min=torch.finfo(rms.dtype).tiny)
        current[left] = moved.clamp(low[left], high[left])
        stored[left] = _stored(current[left])
        steps[left] = number
        with torch.no_grad():
            left = left[model(stored[left]).argmax(1) != targets[left]]
        report(number, len(left))
    succeeded = torch.ones(len(images), dtype=torch.bool, device=images.device)
    succeeded[left] = False
    return Fooled(stored, succeeded, steps, stored - original)


def _stored(images: Tensor) -> Tensor:
    """Images in [0, 1] as a file with 8 bits a value holds them."""
    return (images * _LEVELS).round() / _LEVELS
