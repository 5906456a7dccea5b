"""Saliency maps: the influence of each pixel on the score of a class, from gradients with respect to the image.

    gradient                g(x) = ∂s_y/∂x,     map: max over channels of |g(x)|
    SmoothGrad              ḡ(x) = mean of g(x + ε) over noise ε ~ N(0, σ²),     map: as above, of ḡ
    integrated gradients    a(x) = (x − x₀) ∫₀¹ g(x₀ + t (x − x₀)) dt,     map: |sum over channels of a(x)|

s_y is the unnormalized score (logit) of class y: a probability could also rise because the other scores fall. The
attributions of integrated gradients are complete: their sum is s_y(x) − s_y(x₀). The baseline x₀ is an image without
content. The integral is a mean over midpoints.

Sources: K. Simonyan et al., arXiv 1312.6034; D. Smilkov et al., arXiv 1706.03825; M. Sundararajan et al., arXiv
1703.01365; https://cs231n.github.io/understanding-cnn/

    python -m pipelines.interpret saliency --ckpt logs/convnet/RUN --images cat.png --out maps

The network must be in evaluation mode, since batch norm would make the images of a batch influence each other.

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import check_range


def class_scores(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Returns the logit of each image's class: images (B, C, H, W), labels (B,) to (B,).

    Raises:
        ValueError: If the model does not return logits (B, K).
    """
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        returned = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(f"{type(model).__name__} returns {returned} instead of logits (B, K); use a classifier.")
    return logits.gather(1, labels[:, None])[:, 0]


def score_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Returns ∂s_y/∂x of each image: (B, C, H, W), labels (B,) to (B, C, H, W).

    Raises:
        ValueError: If the model's scores have no gradient with respect to the images.
    """
    # Lightning's validation hooks run in inference mode, whose tensors have no gradients; clones made outside it do.
    with torch.inference_mode(False), torch.enable_grad():
        inputs = images.clone().requires_grad_()
        scores = class_scores(model, inputs, labels.clone())
        gradient = None
        if scores.requires_grad:
            (gradient,) = torch.autograd.grad(scores.sum(), inputs, allow_unused=True)
    if gradient is None:
        raise UserError(
            f"The scores of {type(model).__name__} have no gradient with respect to the pixels; use a network, whose "
            "logits are differentiable with respect to its images."
        )
    return gradient


def saliency(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Returns the maximum over channels of |∂s_y/∂x|: images (B, C, H, W), labels (B,) to maps (B, H, W)."""
    return score_gradient(model, images, labels).abs().amax(1)


def smooth_grad(
    model: nn.Module, images: Tensor, labels: Tensor, noise: float = 0.15, samples: int = 25, seed: int = 0
) -> Tensor:
    """Returns SmoothGrad maps: images (B, C, H, W), labels (B,) to maps (B, H, W).

    Args:
        model: Network that maps images to logits.
        images: Inputs of the network.
        labels: Classes y.
        noise: Standard deviation σ as a fraction of the range of values in each image, > 0.
        samples: Number of noisy images to average over, ≥ 1.
        seed: Seed of the noise.

    Raises:
        ValueError: If a value is out of its range.
    """
    check_range("noise", noise, noise > 0, "> 0")
    check_range("samples", samples, samples >= 1, "at least 1")
    generator = torch.Generator().manual_seed(seed)
    sigma = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))  # (B, 1, 1, 1)
    total = torch.zeros_like(images)
    for _ in range(samples):
        drawn = torch.randn(images.shape, generator=generator).to(
            images
        )  # drawn on the CPU, so that it is the same on every device
        total += score_gradient(model, images + sigma * drawn, labels)
    return (total / samples).abs().amax(1)


def integrated_gradients(
    model: nn.Module, images: Tensor, labels: Tensor, baseline: Tensor | float = 0.0, steps: int = 64
) -> Tensor:
    """Returns the attribution of every value: images (B, C, H, W), labels (B,) to (B, C, H, W).

    Args:
        model: Network that maps images to logits.
        images: Inputs of the network.
        labels: Classes y.
        baseline: Baseline x₀, a number or a tensor that broadcasts to the images.
        steps: Number of midpoints, ≥ 1; with more of them the attributions are closer to complete.

    Raises:
        ValueError: If `steps` is below 1.
    """
    check_range("steps", steps, steps >= 1, "at least 1")
    difference = images - baseline
    total = torch.zeros_like(images)
    for i in range(steps):
        total += score_gradient(model, baseline + (i + 0.5) / steps * difference, labels)
    return difference * total / steps
