"""Saliency: how much each pixel matters for the score of a class, read off the gradient with respect to the image.

    gradient                g(x) = ∂s_y/∂x,     map: max over channels of |g(x)|
    SmoothGrad              ḡ(x) = mean of g(x + ε) over noise ε ~ N(0, σ²),     map: as above, of ḡ
    integrated gradients    a(x) = (x − x₀) ∫₀¹ g(x₀ + t (x − x₀)) dt,     map: |sum over channels of a(x)|

s_y is the unnormalized score (logit) of class y: a probability could also rise because the other scores fall. The
attributions of integrated gradients are complete: their sum is s_y(x) − s_y(x₀). x₀ is an image without content. The
integral is a mean over midpoints.

Sources: K. Simonyan et al., arXiv 1312.6034; D. Smilkov et al., arXiv 1706.03825; M. Sundararajan et al., arXiv
1703.01365; https://cs231n.github.io/understanding-cnn/

    python -m pipelines.interpret saliency --ckpt logs/convnet/RUN --images cat.png --out maps

The network is to be in evaluation mode, or the images of a batch would influence each other through batch norm.

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

import torch
from torch import Tensor, nn

from common.errors import UserError


def class_scores(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The logit of each image's class: images (B, C, H, W), labels (B,) to (B,).

    Raises:
        ValueError: a model that does not give logits (B, K).
    """
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(f"{type(model).__name__} gives {got} instead of logits (B, K); give a classifier.")
    return logits.gather(1, labels[:, None])[:, 0]


def score_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """∂s_y/∂x of each image: (B, C, H, W), labels (B,) to (B, C, H, W).

    Raises:
        ValueError: a model whose scores have no gradient with respect to the images.
    """
    # Lightning's validation hooks run in inference mode, whose tensors have no gradients: hence the clones outside it.
    with torch.inference_mode(False), torch.enable_grad():
        inputs = images.clone().requires_grad_()
        scores = class_scores(model, inputs, labels.clone())
        found = None
        if scores.requires_grad:
            (found,) = torch.autograd.grad(scores.sum(), inputs, allow_unused=True)
    if found is None:
        raise UserError(
            f"The scores of {type(model).__name__} have no gradient with respect to the pixels; give a network, which "
            "is differentiable from its images to its logits."
        )
    return found


def saliency(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """max over channels of |∂s_y/∂x|: images (B, C, H, W), labels (B,) to maps (B, H, W)."""
    return score_gradient(model, images, labels).abs().amax(1)


def smooth_grad(
    model: nn.Module, images: Tensor, labels: Tensor, noise: float = 0.15, samples: int = 25, seed: int = 0
) -> Tensor:
    """SmoothGrad: images (B, C, H, W), labels (B,) to maps (B, H, W).

    Args:
        model: images to logits.
        images: what it takes.
        labels: the classes y.
        noise: σ as a share of the range of values in each image, above 0.
        samples: noisy images to average over, at least 1.
        seed: of the noise.

    Raises:
        ValueError: a value out of the range given above.
    """
    if not noise > 0 or samples < 1:
        raise UserError(f"noise is {noise} and samples is {samples}; give noise above 0 and at least 1 sample.")
    chance = torch.Generator().manual_seed(seed)
    sigma = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))  # (B, 1, 1, 1)
    total = torch.zeros_like(images)
    for _ in range(samples):
        drawn = torch.randn(images.shape, generator=chance).to(images)  # on the CPU: the same on every device
        total += score_gradient(model, images + sigma * drawn, labels)
    return (total / samples).abs().amax(1)


def integrated_gradients(
    model: nn.Module, images: Tensor, labels: Tensor, baseline: Tensor | float = 0.0, steps: int = 64
) -> Tensor:
    """The attribution of every value: images (B, C, H, W), labels (B,) to (B, C, H, W).

    Args:
        model: images to logits.
        images: what it takes.
        labels: the classes y.
        baseline: x₀, one value for all or a tensor that broadcasts to the images.
        steps: midpoints, at least 1; the more there are, the closer the attributions come to being complete.

    Raises:
        ValueError: no step.
    """
    if steps < 1:
        raise UserError(f"steps is {steps}; give at least 1.")
    difference = images - baseline
    total = torch.zeros_like(images)
    for i in range(steps):
        total += score_gradient(model, baseline + (i + 0.5) / steps * difference, labels)
    return difference * total / steps
