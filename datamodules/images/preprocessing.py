"""Preprocessing of images, fitted to the training images alone (the course calls it data preprocessing).

Every method is an affine map of an image x in [0, 1], so weights on its outputs can be shown as weights on pixels:

    scale         x' = 2x − 1                      nothing fitted
    pixels        x' = 255 x                       nothing fitted, and uint8 stays uint8
    mean_image    x' = x − m                       m: mean of each pixel and channel
    standardize   x' = (x − m) / s                 m, s: mean and standard deviation of each channel
    imagenet      x' = (x − m) / s                 m, s: those of ImageNet, for networks pretrained on it; not fitted
    pca           x' = Uᵀ(x − m)                   U: the K principal directions, m: mean image
    whiten        x' = Λ^(−½) Uᵀ(x − m)            Λ: variance along each direction, plus ε = 1e-5

Source: https://cs231n.github.io/neural-networks-2/#datapre

Shapes: N images of the training set, B of a batch, C channels, H×W pixels, D = C·H·W, K components.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from common.errors import UserError

Method = Literal["scale", "pixels", "mean_image", "standardize", "imagenet", "pca", "whiten"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue, as torchvision and timm give them
_IMAGENET_STD = (0.229, 0.224, 0.225)

_EPSILON = 1e-5  # variance (of pixels in [0, 1]) below which a direction counts as noise
_NO_VARIATION = 1e-9  # rounding error of a standard deviation of 0; one pixel one level off in all of CIFAR-10 has 5e-7
_CHUNK = 4096  # images converted to floating point at a time while fitting


class Preprocessing:
    """Fits a method to training images and applies it to batches, on the batch's device.

    Args:
        method: Method, one of those above.
        num_components: K, the number of components that pca and whiten keep, in [1, D]; None keeps all D.

    Raises:
        ValueError: If the method is unknown, or num_components is below 1 or given with another method.
    """

    def __init__(self, method: Method = "standardize", num_components: int | None = None) -> None:
        if method not in get_args(Method):
            raise UserError(f"preprocessing is {method!r}; it must be one of {', '.join(get_args(Method))}.")
        if num_components is not None and (method not in ("pca", "whiten") or num_components < 1):
            raise UserError(
                f"num_components is {num_components} with preprocessing {method}; it must be at least 1 with pca or "
                "whiten, and left out with any other method."
            )
        self.method = method
        self.num_components = num_components
        self.fitted: dict[str, Tensor] = {}  # the tensors of the map; empty before `fit`

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Returns the shape of one preprocessed image of shape (C, H, W)."""
        if self.method not in ("pca", "whiten"):
            return image_shape
        dimensions = image_shape[0] * image_shape[1] * image_shape[2]
        return (min(self.num_components or dimensions, dimensions),)

    def fit(self, images: Tensor) -> None:
        """Fits the method to training images, (N, C, H, W) uint8.

        Raises:
            ValueError: If the images do not vary, there are more components than images or pixels, or imagenet is used
                for images without colors.
        """
        if self.method == "imagenet":
            if images.shape[1] != 3:
                raise UserError("preprocessing imagenet is for RGB images; use standardize for images in grayscale.")
            mean, std = (torch.tensor(of_channels).reshape(3, 1, 1) for of_channels in (_IMAGENET_MEAN, _IMAGENET_STD))
            self.fitted = {"scale": 1 / (255 * std), "shift": -mean / std}
            return
        if self.method == "scale":
            self.fitted = {"scale": torch.tensor(2 / 255), "shift": torch.tensor(-1.0)}
            return
        if self.method == "pixels":
            self.fitted = {"scale": torch.tensor(1.0), "shift": torch.tensor(0.0)}
            return
        if self.method == "standardize":
            # The counts of the 256 levels give mean and deviation exactly, and much faster than a sum over pixels.
            counts = torch.stack([values.flatten().bincount(minlength=256) for values in images.unbind(1)])  # (C, 256)
            shares = counts.double() / counts.sum(1, keepdim=True)
            levels = torch.arange(256, dtype=torch.float64) / 255
            mean = (shares @ levels).reshape(-1, 1, 1)  # (C, 1, 1)
            std = (shares * (levels - mean.flatten(1)) ** 2).sum(1).sqrt().reshape(-1, 1, 1)
            if (std < _NO_VARIATION).any():
                raise UserError(
                    "All training images have the same value in every pixel of a channel, so it can't be divided by "
                    "its standard deviation; use preprocessing mean_image or scale."
                )
            self.fitted = {"scale": (1 / (255 * std)).float(), "shift": (-mean / std).float()}
            return
        # Sums of 128 × 255 and less are exact in float32.
        mean = torch.stack([chunk.float().sum(0) for chunk in images.split(128)]).double().sum(0) / len(images) / 255
        if self.method == "mean_image":
            self.fitted = {"scale": torch.tensor(1 / 255), "shift": -mean.float()}
        else:
            self._fit_components(images, mean.float())

    def _fit_components(self, images: Tensor, mean: Tensor) -> None:
        limit = min(len(images) - 1, mean.numel())
        num_components = self.num_components or mean.numel()
        if num_components > limit:
            raise UserError(
                f"{self.method} can't compute {num_components} components of {len(images)} training images with "
                f"{mean.numel()} values each; set num_components to at most {limit}."
            )
        if torch.equal(images.amin(0), images.amax(0)):
            raise UserError(
                f"All training images are equal, so {self.method} has no principal directions; "
                "use preprocessing mean_image or scale."
            )
        covariance = torch.zeros(mean.numel(), mean.numel())
        for chunk in images.split(_CHUNK):
            centered = (chunk.float() / 255 - mean).flatten(1)  # (n, D)
            covariance.addmm_(centered.mT, centered)
        variances, directions = torch.linalg.eigh(covariance / len(images))  # ascending
        variances, directions = variances.flip(0)[:num_components], directions.flip(1)[:, :num_components]
        # The sign of an eigenvector is arbitrary: fix it, so that every rank and machine gets the same map.
        directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        if self.method == "whiten":
            directions = directions / (variances.clamp(min=0) + _EPSILON).sqrt()
        self.fitted = {"mean": mean, "directions": directions.contiguous()}  # (C, H, W), (D, K)

    def __call__(self, images: Tensor) -> Tensor:
        """Maps uint8 images (B, C, H, W) to float32 of shape (B, *output_shape); `pixels` returns them unchanged."""
        if self.method == "pixels":
            return images
        fitted = {name: tensor.to(images.device) for name, tensor in self.fitted.items()}
        if "directions" in fitted:
            return (images.float() / 255 - fitted["mean"]).flatten(1) @ fitted["directions"]
        # A copy even of float32 images: the map works in place.
        return images.to(torch.float32, copy=True).mul_(fitted["scale"]).add_(fitted["shift"])

    def inverse(self, outputs: Tensor) -> Tensor:
        """Inverts the map for display: (B, *output_shape) to pixels in [0, 1], (B, C, H, W); pca from K components."""
        fitted = {name: tensor.to(outputs.device) for name, tensor in self.fitted.items()}
        if "directions" in fitted:
            lengths = fitted["directions"].square().sum(0)
            flat = (outputs / lengths) @ fitted["directions"].mT
            return (flat.unflatten(1, fitted["mean"].shape) + fitted["mean"]).clamp(0, 1)
        return ((outputs - fitted["shift"]) / fitted["scale"] / 255).clamp(0, 1)

    def weights_as_images(self, weights: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
        """Converts weights on preprocessed values to weights on pixels: (M, *output_shape) to (M, C, H, W).

        The gradient of a score w·x', with x' = A x + b, with respect to the pixels is Aᵀw: the template of the score.
        """
        fitted = {name: tensor.to(weights.device) for name, tensor in self.fitted.items()}
        if "directions" in fitted:
            return (weights @ fitted["directions"].mT).unflatten(1, image_shape)
        return weights * fitted["scale"] * 255


def fitted_of(state: Mapping[str, Any], method: str, output_shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Returns the fitted tensors in a data module's checkpoint.

    Args:
        state: State of the data module in the checkpoint.
        method: Method of the data module that loads it.
        output_shape: Shape of one preprocessed image in that data module.

    Raises:
        ValueError: If the checkpoint was trained with another method or number of components.
    """
    if state["preprocessing"] != method:
        raise UserError(
            f"The checkpoint was trained with preprocessing {state['preprocessing']}, not {method}; leave "
            "preprocessing and features as they were."
        )
    fitted = {name: value for name, value in state.items() if name not in ("preprocessing", "brightness")}
    if "directions" in fitted and fitted["directions"].shape[1:] != output_shape:
        raise UserError(
            f"The checkpoint was trained with {fitted['directions'].shape[1]} components, not {output_shape[0]}; leave "
            "num_components as it was."
        )
    return fitted
