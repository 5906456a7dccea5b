"""Fooling images: adversarial examples, imperceptible changes that make a network predict a chosen class.

    x ← x + η √D g / ‖g‖₂,    g = ∂s_t/∂x at the stored image,    until argmax_k s_k = t

Gradient ascent on the score of the target class t with steps of constant size: η is the root mean square of a step's
change over the D values of an image. The network is always given the image as a file would store it, rounded to 256
levels, so the result still fools the network after saving. An optional bound keeps every value within ±ε of the
original.

Sources: I. Goodfellow et al., arXiv 1412.6572; C. Szegedy et al., arXiv 1312.6199;
https://cs231n.github.io/assignments2022/assignment3/ (network visualization: fooling images)

    python -m pipelines.interpret fooling --ckpt logs/convnet/RUN --images cat.png --class truck --out fooled

Shapes: B images in a batch, C channels, H×W pixels, D = C·H·W, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.ranges import check_range
from modules.interpretation.saliency import score_gradient

Report = Callable[[int, int], None]  # called with the step and the number of images that do not fool the model yet

_LEVELS = 255  # steps between black and white with 8 bits


@dataclass(frozen=True)
class Fooled:
    """Fooling images of a batch.

    Attributes:
        images: Images (B, C, H, W) in [0, 1], rounded to 256 levels.
        succeeded: Whether the network predicts the target of each image, (B,) bool.
        steps: Steps taken for each image, (B,) int64; 0 if its target was predicted from the start.
        change: Differences from the originals, (B, C, H, W).
    """

    images: Tensor
    succeeded: Tensor
    steps: Tensor
    change: Tensor

    @property
    def l2(self) -> Tensor:
        """L2 norms of the changes, (B,)."""
        return self.change.flatten(1).norm(dim=1)

    @property
    def largest(self) -> Tensor:
        """L∞ norms of the changes, the largest absolute values, (B,)."""
        return self.change.flatten(1).abs().amax(1)


def fool(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    step: float = 0.001,
    max_steps: int = 200,
    bound: float | None = None,
    report: Report = lambda step, remaining: None,
) -> Fooled:
    """Changes the images of a batch in parallel until the network predicts the target of each.

    Args:
        model: Network in evaluation mode that maps pixels in [0, 1] to logits; `taking_pixels` adds a preprocessing.
        images: Images (B, C, H, W) in [0, 1].
        targets: Target classes t, (B,).
        step: Step size η, > 0.
        max_steps: Largest number of steps, ≥ 1.
        bound: Largest change ε of a value, > 0; None limits values only to [0, 1].
        report: Function called after each step with the number of images that remain.

    Raises:
        ValueError: If a value is out of its range, or the model has no gradients.
    """
    check_range("step", step, step > 0, "> 0")
    check_range("max_steps", max_steps, max_steps >= 1, "at least 1")
    check_range("bound", bound, bound is None or bound > 0, "> 0, such as 0.03, or left out")
    low, high = torch.zeros_like(images), torch.ones_like(images)
    if bound is not None:
        # Rounded inwards to whole levels, since rounding could exceed the bound.
        low = ((images - bound).clamp(min=0) * _LEVELS - 1e-4).ceil() / _LEVELS
        high = ((images + bound).clamp(max=1) * _LEVELS + 1e-4).floor() / _LEVELS
    original = _quantized(images)
    current, stored = images.clone(), original.clone()
    steps = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    with torch.no_grad():
        remaining = (model(stored).argmax(1) != targets).nonzero().flatten()  # indices of images to change, (b,)
    for number in range(1, max_steps + 1):
        if not len(remaining):
            break
        gradient = score_gradient(model, stored[remaining], targets[remaining])  # (b, C, H, W)
        rms = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
        moved = current[remaining] + step * gradient / rms.clamp(min=torch.finfo(rms.dtype).tiny)
        current[remaining] = moved.clamp(low[remaining], high[remaining])
        stored[remaining] = _quantized(current[remaining])
        steps[remaining] = number
        with torch.no_grad():
            remaining = remaining[model(stored[remaining]).argmax(1) != targets[remaining]]
        report(number, len(remaining))
    succeeded = torch.ones(len(images), dtype=torch.bool, device=images.device)
    succeeded[remaining] = False
    return Fooled(stored, succeeded, steps, stored - original)


def _quantized(images: Tensor) -> Tensor:
    """Rounds images in [0, 1] to the values that 8 bits represent."""
    return (images * _LEVELS).round() / _LEVELS
