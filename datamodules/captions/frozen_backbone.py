"""A frozen network that turns images into features: any network of timm, with weights from a file or from the hub.

    grid      F = f(x) at each of the L = h·w places of the network's last feature map, (L, D): what attention looks at
    pooled    their mean, as the network's own classifier would get it, (D,)

Images are resized as a whole to the size that the network was trained with: a crop would cut off what a caption speaks
of.

Shapes: B images in a batch, S side in pixels, L places of the grid, D features.
"""

import warnings
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from common.errors import UserError
from datamodules.images.image_inputs import read_square

FeatureForm = Literal["grid", "pooled"]

VERSION = 1  # of the numbers that come out: raise it with every change of how they are computed


class FrozenBackbone:
    """A frozen network that gives features of images.

    Args:
        name: of the network in timm, such as resnet50.
        pretrained: hub, a file of weights, or None for random ones, always the same.
        form: grid or pooled.

    Raises:
        ValueError: an unknown name, or a file that does not exist.
    """

    def __init__(self, name: str, pretrained: str | None, form: FeatureForm) -> None:
        import timm  # takes a second and a half to import

        if not timm.is_model(name.split(".")[0]):
            near = get_close_matches(name, timm.list_models(), n=3)
            hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models('*resnet*') lists some."
            raise UserError(f"timm has no model {name!r} to be a backbone; {hint}")
        if pretrained not in (None, "hub") and not Path(str(pretrained)).is_file():
            raise UserError(f"pretrained is {pretrained!r}, and there is no such file; give hub or a file of weights.")
        if pretrained == "hub" and not timm.is_model_pretrained(name):
            raise UserError(f"timm knows no pretrained weights for {name!r}; give a file of weights.")
        self.name = name
        self.pretrained = pretrained
        self.form = form

    @cached_property
    def config(self) -> dict[str, Any]:
        """How timm prepares images for the network: input_size (3, S, S), mean, std and interpolation."""
        from timm.data import resolve_model_data_config

        with torch.device("meta"):
            found: dict[str, Any] = resolve_model_data_config(self._create())
        return found

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image's features: (L, D) or (D,). No number is computed for it."""
        with torch.device("meta"), torch.no_grad():
            return tuple(self._features(self._create().eval(), torch.zeros(1, 3, self.size, self.size)).shape[1:])

    @property
    def size(self) -> int:
        """S, the side in pixels of the images that the network takes."""
        return int(self.config["input_size"][1])

    @cached_property
    def digest(self) -> str:
        """Names the network, its weights and how images are prepared for it."""
        wanted = {key: self.config[key] for key in ("input_size", "mean", "std", "interpolation")}
        key = blake2b(f"{VERSION} {self.name} {self.form} {sorted(wanted.items())} ".encode(), digest_size=16)
        if self.pretrained not in (None, "hub"):
            key.update(Path(str(self.pretrained)).read_bytes())
        else:
            key.update(f"{self.pretrained} {self._create_config()}".encode())
        return key.hexdigest()

    def _create_config(self) -> Any:
        """What the hub's weights are known by, without a download."""
        import timm

        return timm.get_pretrained_cfg(self.name) if self.pretrained == "hub" else None

    def _create(self, pretrained: bool = False) -> nn.Module:
        import timm

        overlay = None if self.pretrained in (None, "hub") else {"file": self.pretrained}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = timm.create_model(self.name, pretrained=pretrained, pretrained_cfg_overlay=overlay)
        return network

    @cached_property
    def network(self) -> nn.Module:
        """The network with its weights, for evaluation.

        Raises:
            ValueError: weights that can't be had or don't fit.
        """
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                network = self._create(pretrained=self.pretrained is not None)
        except Exception as error:  # timm, torch and the hub each raise what they please
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise UserError(
                f"The weights {self.pretrained!r} can't be used for {self.name}: {reason}; give weights of that model."
            ) from error
        return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, L, D) or (B, D) of images (B, 3, S, S) uint8, computed where the network is."""
        device = next(self.network.parameters()).device
        mean, std = (torch.tensor(self.config[key], device=device).reshape(3, 1, 1) for key in ("mean", "std"))
        inputs = (images.to(device) / 255 - mean) / std
        return self._features(self.network, inputs.contiguous(memory_format=torch.channels_last)).float()

    def _features(self, network: Any, inputs: Tensor) -> Tensor:
        found: Tensor = network.forward_features(inputs)
        if self.form == "pooled":
            pooled: Tensor = network.forward_head(found, pre_logits=True)
            return pooled
        if found.ndim == 3:  # transformers: the class token and its like come first
            return found[:, getattr(network, "num_prefix_tokens", 0) :]
        if found.shape[1] != network.num_features:  # some keep the features last
            return found.flatten(1, 2)
        return found.flatten(2).mT  # (B, D, h, w) to (B, L, D)

    def read(self, file: Path) -> np.ndarray:
        """An image file as the network takes it: (S, S, 3) uint8.

        Raises:
            ValueError: a file that can't be read as an image.
        """
        return read_square(file, self.size, Image.Resampling[str(self.config["interpolation"]).upper()])
