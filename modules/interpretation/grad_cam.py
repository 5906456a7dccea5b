"""Grad-CAM: where in the image a layer sees what speaks for a class.

    α_m = mean over positions of ∂s_y/∂A_m,     map = ReLU(Σ_m α_m A_m), enlarged to the image

A_m is the map of channel m, s_y the unnormalized score of class y. Deep layers know what an object is and only roughly
where, so the map is coarse; its color means "for this class", which saliency's does not.

Source: R. Selvaraju et al., arXiv 1610.02391

    python -m pipelines.interpret saliency --method grad_cam --ckpt logs/convnet/RUN --images cat.png --out maps

Shapes: B images in a batch, C channels, H×W pixels, M channels of the layer, h×w positions of its maps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.interpretation.feature_extraction import captured, find_layer, map_layers
from modules.interpretation.saliency import class_scores


def grad_cam(model: nn.Module, images: Tensor, labels: Tensor, layer: str | None = None) -> Tensor:
    """Maps (B, H, W), 0 or more, for images (B, C, H, W) and classes (B,).

    Args:
        model: images to logits, in evaluation mode.
        images: what it takes.
        labels: the classes y.
        layer: name of a layer that gives maps; None takes the last one.

    Raises:
        ValueError: no such layer, or scores that have no gradient with respect to it.
    """
    if layer is None:
        layer = last_map_layer(model, images[:1])
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        captured([find_layer(model, layer, images[:1])]) as outputs,
    ):
        # Gradients flow to the layer even where its weights are frozen.
        scores = class_scores(model, images.clone().requires_grad_(), labels.clone())
        (maps,) = outputs  # (B, M, h, w)
        assert maps is not None
        gradient = None
        if scores.requires_grad:
            (gradient,) = torch.autograd.grad(scores.sum(), maps, allow_unused=True)
    if gradient is None:
        raise UserError(
            f"The scores of {type(model).__name__} have no gradient with respect to layer {layer!r}; give a layer "
            "that they are computed from."
        )
    weights = gradient.mean((2, 3), keepdim=True)  # (B, M, 1, 1)
    coarse = (weights * maps.detach()).sum(1, keepdim=True).relu()  # (B, 1, h, w)
    return F.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def last_map_layer(model: nn.Module, images: Tensor) -> str:
    """The name of the last layer that gives maps for images (B, C, H, W).

    Raises:
        ValueError: there is none.
    """
    names = list(map_layers(model, images))
    if not names:
        raise UserError(
            f"{type(model).__name__} has no layer that gives maps (B, M, h, w), so there is no Grad-CAM; take saliency."
        )
    return names[-1]
