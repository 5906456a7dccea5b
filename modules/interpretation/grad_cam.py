"""Grad-CAM: class activation maps, the regions of an image that raise the score of a class.

    α_m = mean over positions of ∂s_y/∂A_m,     map = ReLU(Σ_m α_m A_m), upsampled to the image

A_m is the map of channel m, s_y the unnormalized score of class y. Deep layers have a low resolution, so the map is
coarse; it is positive only where the layer raises the score of this class, which is not so for saliency.

Source: R. Selvaraju et al., arXiv 1610.02391

    python -m pipelines.interpret saliency --method grad_cam --ckpt logs/convnet/RUN --images cat.png --out maps

Shapes: B images in a batch, C channels, H×W pixels, M channels of the layer, h×w positions of its maps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.interpretation.feature_extraction import captured_outputs, find_layer, map_layers
from modules.interpretation.saliency import class_scores


def grad_cam(model: nn.Module, images: Tensor, labels: Tensor, layer: str | None = None) -> Tensor:
    """Computes maps (B, H, W), ≥ 0, for images (B, C, H, W) and classes (B,).

    Args:
        model: Network in evaluation mode that maps images to logits.
        images: Inputs of the network.
        labels: Classes y.
        layer: Name of a layer that outputs maps; None takes the last one.

    Raises:
        ValueError: If there is no such layer, or the scores have no gradient with respect to it.
    """
    if layer is None:
        layer = last_map_layer(model, images[:1])
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        captured_outputs([find_layer(model, layer, images[:1])]) as outputs,
    ):
        # The images require a gradient so that it reaches the layer even if all weights are frozen.
        scores = class_scores(model, images.clone().requires_grad_(), labels.clone())
        (maps,) = outputs  # (B, M, h, w)
        assert maps is not None
        gradient = None
        if scores.requires_grad:
            (gradient,) = torch.autograd.grad(scores.sum(), maps, allow_unused=True)
    if gradient is None:
        raise UserError(
            f"The scores of {type(model).__name__} have no gradient with respect to layer {layer!r}; choose a layer "
            "that they are computed from."
        )
    weights = gradient.mean((2, 3), keepdim=True)  # (B, M, 1, 1)
    coarse = (weights * maps.detach()).sum(1, keepdim=True).relu()  # (B, 1, h, w)
    return F.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def last_map_layer(model: nn.Module, images: Tensor) -> str:
    """Returns the name of the last layer that outputs maps for images (B, C, H, W).

    Raises:
        ValueError: If there is none.
    """
    names = list(map_layers(model, images))
    if not names:
        raise UserError(
            f"{type(model).__name__} has no layer that outputs maps (B, M, h, w), which Grad-CAM needs; use saliency."
        )
    return names[-1]
