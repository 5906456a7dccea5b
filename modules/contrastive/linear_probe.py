"""Evaluation of pretrained features: a linear classifier on frozen features, or fine-tuning of the whole network.

    linear probe    the encoder is frozen, in evaluation mode; logits = W h + b is trained
    fine-tuning     freeze_backbone false: the encoder is trained too, starting from the pretrained weights
    from scratch    freeze_backbone false and no checkpoint: the same network from random weights, as a baseline
    random weights  no checkpoint: a linear probe of randomly initialized features, as a baseline

The images of each epoch are augmented and passed through the encoder, frozen or not.

Source: T. Chen et al., arXiv 2002.05709, sections 4.2 and B.8.

    python -m pipelines.train fit --config linear_probe --model.checkpoint logs/simclr/RUN
    python -m pipelines.train fit --config finetune --data.subset 450 --model.checkpoint logs/simclr/RUN
    python -m pipelines.train fit --config finetune --data.subset 450

Shapes: B images in a batch, C channels, H×W pixels, F features, K classes.
"""

import json
from math import log
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.checked_tensors import load_checked
from common.checkpoint_paths import checkpoint_of
from common.errors import UserError
from common.user_paths import user_path
from modules.base.classifier import Classifier
from modules.networks.backbones import create_encoder


class LinearProbe(Classifier):
    """A linear classifier on an encoder, frozen or fine-tuned.

    Args:
        input_shape: Shape (C, H, W) of the images.
        num_classes: Number of classes K, ≥ 2.
        checkpoint: Run folder or checkpoint of SimCLR with the encoder's weights; None initializes at random.
        freeze_backbone: Train only the linear layer.
        backbone: Name of the encoder in timm; it and the next two must be those of the checkpoint.
        small_stem: Replace the first convolution and pooling, which would quarter the size, by one with stride 1.
        options: Further arguments of timm.create_model.

    Raises:
        ValueError: If the checkpoint is missing, of another topic or of another encoder, or the encoder can't be
            created.
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
            load_encoder(self.encoder, user_path(checkpoint))
        self.encoder.requires_grad_(not freeze_backbone).train(not freeze_backbone)
        self.output = nn.Linear(width, num_classes)
        nn.init.normal_(self.output.weight, std=0.01)  # small, so that all classes start with nearly equal scores
        nn.init.zeros_(self.output.bias)
        self.example_input_array = torch.zeros(2, *input_shape)

    def features(self, images: Tensor) -> Tensor:
        """Returns features (B, F) of images (B, C, H, W)."""
        features: Tensor = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, K) of images (B, C, H, W)."""
        logits: Tensor = self.output(self.features(images))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the cross-entropy, a scalar, of logits (B, K) and labels (B,)."""
        return F.cross_entropy(logits, labels)

    def expected_initial_loss(self) -> float:
        """Returns ln K: with nearly equal scores, every class has probability about 1/K."""
        return log(self.num_classes)

    def train(self, mode: bool = True) -> "LinearProbe":
        """Sets the mode; a frozen encoder stays in evaluation mode, so that its running averages do not change."""
        super().train(mode)
        if self.freeze_backbone:
            self.encoder.eval()
        return self


def load_encoder(encoder: nn.Module, file: Path) -> None:
    """Loads the weights of the encoder in a checkpoint of SimCLR, a file or the folder of a run.

    Raises:
        ValueError: If the file is missing, unreadable or of another topic, or its encoder is another one.
    """
    file = checkpoint_of(file)
    if not file.is_file():
        raise UserError(f"There is no checkpoint at {file}; use the folder of a run of simclr, or its .ckpt file.")
    try:
        stored: Any = load_checked(file)
    except Exception as error:  # torch.load raises many kinds of errors
        raise UserError(f"{file} can't be read as a checkpoint; use another one of a run of simclr.") from error
    weights: dict[str, Tensor] = stored.get("state_dict", {}) if isinstance(stored, dict) else {}
    encoder_weights = {
        name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")
    }
    if not encoder_weights or not any(name.startswith("projector.") for name in weights):
        settings = stored.get("hyper_parameters", {}) if isinstance(stored, dict) else {}
        of = str(settings.get("_class_path", "another model")).rsplit(".", 1)[-1]
        raise UserError(f"{file} is a checkpoint of {of}, not of SimCLR; use one that a run of simclr has written.")
    shapes = {name: value.shape for name, value in encoder.state_dict().items()}
    if shapes != {name: value.shape for name, value in encoder_weights.items()}:
        used = stored["hyper_parameters"]
        backbone = used.get("backbone", used.get("name"))  # `name` in checkpoints of version 0.1
        raise UserError(
            f"The encoder in {file} differs from this model's; set model.backbone to {backbone}, model.small_stem to "
            f"{json.dumps(used['small_stem'])} and model.options to {json.dumps(used['options'])}."
        )
    encoder.load_state_dict(encoder_weights)
