"""Class visualization: an image that a network finds most typical of a class, drawn by gradient ascent on its score.

    x ← x + η √D g / ‖g‖₂,    g = ∂/∂x (s_y(x) − λ ‖x − ½‖²)

starting from faint noise around mid-gray, with what makes it look like something:

    L2        λ draws pixels that do nothing for the score back to gray
    jitter    the image is shifted at random before each step and back after it, so no pixel depends on its place
    blur      every few steps a small Gaussian blur takes away the high frequencies that networks like so much

η is the root mean square of a step's change over the D values of an image; it falls to 0 along a half cosine, so that
the last steps settle.

Sources: K. Simonyan et al., arXiv 1312.6034; J. Yosinski et al., arXiv 1506.06579;
https://cs231n.github.io/assignments2022/assignment3/ (network visualization: class visualization)

    python -m pipelines.interpret class_visualization --ckpt logs/convnet/RUN --out classes

Shapes: B images, one a class, C channels, H×W pixels, D = C·H·W, K classes.
"""

from collections.abc import Callable
from math import cos, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.interpretation.saliency import score_gradient

Report = Callable[[int, Tensor], None]  # told the step and the images (B, C, H, W) after it


def visualize_classes(
    model: nn.Module,
    labels: Tensor,
    image_shape: tuple[int, int, int],
    steps: int = 200,
    step: float = 0.02,
    l2: float = 0.01,
    jitter: float = 0.07,
    blur: float = 0.5,
    blur_every: int = 10,
    seed: int = 0,
    report: Report = lambda step, images: None,
) -> Tensor:
    """Images of classes (B,): (B, C, H, W) in [0, 1].

    Args:
        model: pixels in [0, 1] to logits, in evaluation mode; `layers.taking_pixels` puts a preprocessing before it.
        labels: the classes y, one image each; they may repeat.
        image_shape: (C, H, W).
        steps: at least 1.
        step: η at the start, above 0.
        l2: λ, at least 0.
        jitter: largest shift as a share of the image's side, in [0, 1].
        blur: standard deviation of the Gaussian in pixels, at least 0; 0 leaves it out.
        blur_every: steps from one blur to the next, at least 1.
        seed: of the first image and the shifts.
        report: told the images after each step.

    Raises:
        ValueError: a value out of the range given above, or a model without gradients.
    """
    if steps < 1 or blur_every < 1:
        raise UserError(f"steps is {steps} and blur_every is {blur_every}; give at least 1 for each.")
    if not step > 0 or not (l2 >= 0 and blur >= 0):
        raise UserError(f"step is {step}, l2 {l2} and blur {blur}; give a step above 0 and 0 or more for the others.")
    if not 0 <= jitter <= 1:
        raise UserError(f"jitter is {jitter}; give a share of the image's side from 0 to 1.")
    chance = torch.Generator().manual_seed(seed)
    start = 0.5 + 0.05 * torch.randn(len(labels), *image_shape, generator=chance)
    images = gaussian_blur(start, 1.0).to(labels.device)
    most = round(jitter * min(image_shape[1:]))
    for number in range(1, steps + 1):
        down, right = torch.randint(-most, most + 1, (2,), generator=chance).tolist()
        shifted = images.roll((down, right), (2, 3))
        gradient = score_gradient(model, shifted, labels) - 2 * l2 * (shifted - 0.5)
        rms = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=torch.finfo(gradient.dtype).tiny)
        rate = step * (1 + cos(pi * (number - 1) / steps)) / 2
        images = (shifted + rate * gradient / rms).clamp(0, 1).roll((-down, -right), (2, 3))
        if blur and number % blur_every == 0 and number < steps:
            images = gaussian_blur(images, blur)
        report(number, images)
    return images


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Images (B, C, H, W) smoothed by a Gaussian of that standard deviation in pixels; borders are mirrored."""
    channels, height, width = images.shape[1:]
    radius = min(max(1, round(3 * sigma)), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(channels, 1, 1, -1)  # (C, 1, 1, 2 radius + 1)
    images = F.conv2d(F.pad(images, (radius, radius, 0, 0), mode="reflect"), kernel, groups=channels)
    return F.conv2d(F.pad(images, (0, 0, radius, radius), mode="reflect"), kernel.mT, groups=channels)
