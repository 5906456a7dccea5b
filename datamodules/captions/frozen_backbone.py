"""A frozen network of timm that turns images into features.

    grid      the network's last feature map f(x) at its L = h·w positions, (L, D), for attention
    pooled    their mean, as the network's own classifier reads it, (D,)

Whole images are resized to the size that the network was trained with: a crop would cut off parts that captions
describe.

Shapes: B images in a batch, S side in pixels, L positions of the grid, D features.
"""

from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from common.timm_models import check_timm_model, create_timm_model, timm_name
from datamodules.images.image_files import read_square

FeatureForm = Literal["grid", "pooled"]

VERSION = 1  # of the computation: raise it with every change that changes the features


class FrozenBackbone:
    """A frozen network that computes features of images.

    Args:
        name: Name of the model in timm, such as resnet50.
        pretrained: hub for the weights that timm names, a file of weights, or None for random weights of a fixed seed.
        form: Form of the features, grid or pooled.

    Raises:
        ValueError: If the name is unknown, or there are no such weights.
    """

    def __init__(self, name: str, pretrained: str | None, form: FeatureForm) -> None:
        check_timm_model(name, pretrained)
        self.name = timm_name(name)
        self.pretrained = pretrained
        self.form = form

    @cached_property
    def config(self) -> dict[str, Any]:
        """timm's preprocessing for the network: input_size (3, S, S), mean, std and interpolation."""
        from timm.data import resolve_model_data_config

        with torch.device("meta"):
            config: dict[str, Any] = resolve_model_data_config(create_timm_model(self.name, None))
        return config

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image's features, (L, D) or (D,), found without weights or computation."""
        with torch.device("meta"), torch.no_grad():
            network = create_timm_model(self.name, None).eval()
            return tuple(self._features(network, torch.zeros(1, 3, self.size, self.size)).shape[1:])

    @property
    def size(self) -> int:
        """Side S of the images that the network takes, in pixels."""
        return int(self.config["input_size"][1])

    @cached_property
    def digest(self) -> str:
        """Hash of the network's name, its weights and the preprocessing."""
        preprocessing = {key: self.config[key] for key in ("input_size", "mean", "std", "interpolation")}
        key = blake2b(f"{VERSION} {self.name} {self.form} {sorted(preprocessing.items())} ".encode(), digest_size=16)
        if self.pretrained not in (None, "hub"):
            key.update(Path(str(self.pretrained)).read_bytes())
        else:
            key.update(f"{self.pretrained} {self._hub_config()}".encode())
        return key.hexdigest()

    def _hub_config(self) -> Any:
        """Identifies the hub's weights without a download."""
        import timm

        return timm.get_pretrained_cfg(self.name) if self.pretrained == "hub" else None

    @cached_property
    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode.

        Raises:
            ValueError: If the weights can't be downloaded or read, or don't fit the network.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = create_timm_model(self.name, self.pretrained)
        return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Returns features (B, L, D) or (B, D) of images (B, 3, S, S) uint8, computed on the network's device."""
        device = next(self.network.parameters()).device
        mean, std = (torch.tensor(self.config[key], device=device).reshape(3, 1, 1) for key in ("mean", "std"))
        inputs = (images.to(device) / 255 - mean) / std
        return self._features(self.network, inputs.contiguous(memory_format=torch.channels_last)).float()

    def _features(self, network: Any, inputs: Tensor) -> Tensor:
        features: Tensor = network.forward_features(inputs)
        if self.form == "pooled":
            pooled: Tensor = network.forward_head(features, pre_logits=True)
            return pooled
        if features.ndim == 3:  # a transformer, whose class token and the like come first
            return features[:, getattr(network, "num_prefix_tokens", 0) :]
        if features.shape[1] != network.num_features:  # channels last, (B, h, w, D)
            return features.flatten(1, 2)
        return features.flatten(2).mT  # (B, D, h, w) to (B, L, D)

    def read(self, file: Path) -> np.ndarray:
        """Reads an image file as the network takes it: (S, S, 3) uint8.

        Raises:
            ValueError: If the file can't be read as an image.
        """
        return read_square(file, self.size, Image.Resampling[str(self.config["interpolation"]).upper()])
