"""What pretrained features are worth: a linear classifier on them, or the whole network fine-tuned.

    linear probe    the encoder stays as SimCLR left it, in evaluation; logits = W h + b learns
    fine-tuning     freeze_backbone false: the encoder learns too, from where the pretraining ended
    from scratch    freeze_backbone false and no checkpoint: the same network from random weights, to compare with
    random weights  no checkpoint: a linear probe of the features that nobody trained

Each epoch's images are augmented anew and go through the encoder, frozen or not.

Source: T. Chen et al., arXiv 2002.05709, sections 4.2 and B.8.

    python -m pipelines.train fit --config linear_probe --model.checkpoint logs/simclr/RUN/checkpoints/best.ckpt
    python -m pipelines.train fit --config finetune --data.subset 450 --model.checkpoint …/best.ckpt
    python -m pipelines.train fit --config finetune --data.subset 450

Shapes: B images in a batch, C channels, H×W pixels, F features, K classes.
"""

import json
from math import log
from pathlib import Path
from shlex import quote
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.base.classifier import Classifier
from modules.networks.backbones import create_encoder


class LinearProbe(Classifier):
    """A linear layer on an encoder.

    Args:
        input_shape: (C, H, W) of the images.
        num_classes: K, at least 2.
        checkpoint: of SimCLR, whose encoder is taken; None starts at random weights.
        freeze_backbone: train the linear layer alone.
        backbone: Name of the encoder in timm; it must be the checkpoint's, like the next two.
        small_stem: keep small images from being shrunk at once, as in `backbones.py`.
        options: further arguments of timm.create_model.

    Raises:
        ValueError: a checkpoint that is missing, of another topic or of another encoder, or an encoder that can't be
            made.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        checkpoint: str | None = None,
        freeze_backbone: bool = True,
        backbone: str = "resnet18",
        small_stem: bool = True,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_classes)
        self.save_hyperparameters(logger=False)
        self.freeze_backbone = freeze_backbone
        self.encoder, width = create_encoder(input_shape, backbone, small_stem, options)
        if checkpoint is not None:
            load_encoder(self.encoder, Path(checkpoint))
        self.encoder.requires_grad_(not freeze_backbone).train(not freeze_backbone)
        self.output = nn.Linear(width, num_classes)
        nn.init.normal_(self.output.weight, std=0.01)  # small, so that all classes start level
        nn.init.zeros_(self.output.bias)
        self.example_input_array = torch.zeros(2, *input_shape)

    def features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, F)."""
        features: Tensor = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.output(self.features(images))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy: logits (B, K), labels (B,) to a scalar. Regularize with the optimizer's weight_decay."""
        return F.cross_entropy(logits, labels)

    def expected_initial_loss(self) -> float:
        """ln K: with nearly equal scores every class has probability 1/K."""
        return log(self.num_classes)

    def train(self, mode: bool = True) -> "LinearProbe":
        """Training or evaluation; a frozen encoder stays in evaluation, or its running averages would move."""
        super().train(mode)
        if self.freeze_backbone:
            self.encoder.eval()
        return self


def load_encoder(encoder: nn.Module, file: Path) -> None:
    """Gives an encoder the weights of the one in a checkpoint of SimCLR.

    Raises:
        ValueError: a file that is missing, can't be read, or is of another topic, or an encoder that differs.
    """
    if not file.is_file():
        raise UserError(f"There is no checkpoint at {file}; give the .ckpt file of a run of simclr.")
    try:
        stored: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its reader stumbles over
        raise UserError(f"{file} can't be read as a checkpoint; give another one of a run of simclr.") from error
    weights: dict[str, Tensor] = stored.get("state_dict", {}) if isinstance(stored, dict) else {}
    found = {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")}
    if not found or not any(name.startswith("projector.") for name in weights):
        settings = stored.get("hyper_parameters", {}) if isinstance(stored, dict) else {}
        of = str(settings.get("_class_path", "another model")).rsplit(".", 1)[-1]
        raise UserError(f"{file} is a checkpoint of {of}, not of SimCLR; give one that a run of simclr has written.")
    wanted = {name: value.shape for name, value in encoder.state_dict().items()}
    if wanted != {name: value.shape for name, value in found.items()}:
        used = stored["hyper_parameters"]
        backbone = used.get("backbone", used.get("name"))  # `name` in checkpoints of version 0.1
        raise UserError(
            f"The encoder in {file} is another one than this model's; give --model.backbone {backbone} "
            f"--model.small_stem {json.dumps(used['small_stem'])} --model.options {quote(json.dumps(used['options']))}."
        )
    encoder.load_state_dict(found)
