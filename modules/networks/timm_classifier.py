"""Any model of timm as a classifier, made ready for small images, with what a good training recipe needs.

    stem              for small images: `backbones.py`
    label smoothing   the target is 1 − ε for the true class plus ε/K for every class (arXiv 1512.00567)
    mixup             λ x₁ + (1 − λ) x₂ with target λ y₁ + (1 − λ) y₂, λ drawn from Beta(α, α) (arXiv 1710.09412)
    cutmix            a rectangle of x₂ pasted into x₁, the targets mixed by area (arXiv 1905.04899)
    mirror            in `test` and `predict` the logits are the mean of those of an image and of its mirror image

An average of the weights over the training is Lightning's callback EMAWeightAveraging, the cosine schedule with warm-up
`schedules.py`, the update rule timm's Muon; the topic's configuration has all three. Muon's large steps are for weights
that start at random; pretrained ones keep what they know with AdamW at a small rate (`--optimizer torch.optim.AdamW
--optimizer.lr 1e-3`), and with the stem and images nearer in size to those that they were trained on.

    python -m pipelines.train fit --config resnet
    python -m pipelines.train fit --config resnet --model.backbone resnet50 --model.pretrained hub --model.small_stem false

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

from math import log
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.base.classifier import Classifier
from modules.networks.backbones import create_backbone, enlarge_stem, first_convolution
from modules.networks.normalization import ONE_IMAGE


class TimmClassifier(Classifier):
    """A network of timm with a classifier of `num_classes` classes.

    Args:
        input_shape: (C, H, W) of the images.
        num_classes: K, at least 2.
        backbone: Name of the model in timm, such as resnet18 or convnext_tiny.
        small_stem: keep small images from being shrunk at once, as above.
        pretrained: hub downloads the weights that timm names for the model, a path reads them from a file
            (.safetensors or .pth); None starts at random. The last layer always starts anew.
        freeze_backbone: train the last layer alone, on the features that the pretrained network has.
        image_size: enlarge or shrink the images to this side in pixels first; None takes them as they are.
        label_smoothing: ε, in [0, 1).
        mixup: α of mixup, at least 0; 0 leaves it out.
        cutmix: α of cutmix, at least 0; 0 leaves it out. With both, each batch gets one of the two.
        mirror_test: average over mirrored images in `test` and `predict`.
        compile: compile the network with torch.compile.
        options: further arguments of timm.create_model, such as {drop_path_rate: 0.1}.

    Raises:
        ValueError: a value out of the range given above, an unknown model, or weights that don't fit it.
    """

    class_templates: ClassVar[bool] = False  # whether `templates` has one for each class

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        backbone: str = "resnet18",
        small_stem: bool = True,
        pretrained: str | None = None,
        freeze_backbone: bool = False,
        image_size: int | None = None,
        label_smoothing: float = 0.1,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mirror_test: bool = True,
        compile: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_classes)
        if len(input_shape) != 3:
            raise UserError(
                f"{backbone} takes images (C, H, W), but the data has shape {tuple(input_shape)}; give a preprocessing "
                "that keeps them images, such as standardize."
            )
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing is {label_smoothing}; give a share from 0 up to, but not, 1.")
        if not (mixup >= 0 and cutmix >= 0):
            raise UserError(f"mixup is {mixup} and cutmix is {cutmix}; give 0 (without) or more for each.")
        if image_size is not None and image_size < 1:
            raise UserError(f"image_size is {image_size}; give at least 1 pixel.")
        self.save_hyperparameters(logger=False)
        self.image_size = image_size
        self.label_smoothing = label_smoothing
        self.mirror_test = mirror_test
        self.freeze_backbone = freeze_backbone
        self.network = create_backbone(backbone, num_classes, input_shape[0], pretrained, options or {})
        if small_stem:
            enlarge_stem(self.network, backbone)
        if freeze_backbone:
            self.network.requires_grad_(False)
            self._head.requires_grad_(True)
            self.train()  # Lightning begins to train with every layer as it was built
        self.mix = self._mixup(mixup, cutmix) if mixup or cutmix else None
        self.to(memory_format=torch.channels_last)  # twice as fast in half precision, on GPUs and CPUs
        if compile:
            self.network.compile()  # in place, so that the names of the weights stay as they are
        self.example_input_array = torch.zeros(2, *input_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        if self.image_size is not None:
            images = F.interpolate(images, size=(self.image_size,) * 2, mode="bicubic", antialias=True)
        try:
            logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        except ValueError as error:
            if self.training and len(images) == 1:  # torch refuses where one image has shrunk to one position
                raise UserError(ONE_IMAGE) from error
            raise
        return logits

    def test_logits(self, images: Tensor) -> Tensor:
        """Logits (B, K) of `test` and `predict`: over an image and its mirror image, if that is asked for."""
        logits: Tensor = self(images)
        return (logits + self(images.flip(-1))) / 2 if self.mirror_test else logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, smoothed in training: logits (B, K), labels (B,) or mixed targets (B, K) to a scalar."""
        hard = labels.ndim == 1
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing if self.training and hard else 0.0)

    def expected_initial_loss(self) -> float | None:
        """ln K where the last layer starts near 0; unknown for a network whose own start differs."""
        return log(self.num_classes) if isinstance(self._head, nn.Linear) else None

    def training_targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mixes the images of a batch, if that is asked for: (B, C, H, W), (B,) to (B, C, H, W), targets (B, K)."""
        if self.mix is None:
            return images, labels
        if len(images) % 2:
            raise UserError(
                f"Mixup and cutmix got a batch of {len(images)} images, but they mix them in pairs; give an even "
                "batch_size."
            )
        mixed, targets = self.mix(images, labels)
        return mixed, targets

    def train(self, mode: bool = True) -> "TimmClassifier":
        """Training or evaluation; what is frozen stays in evaluation, or its running averages would move."""
        super().train(mode)
        if self.freeze_backbone:
            self.network.eval()
            self._head.train(mode)
        return self

    def templates(self) -> Tensor:
        """The filters of the first convolution: (M, C, side, side)."""
        return first_convolution(self.network).weight.detach()

    @property
    def _head(self) -> nn.Module:
        head: nn.Module = self.network.get_classifier()  # type: ignore[operator]
        return head

    def _mixup(self, mixup: float, cutmix: float) -> Any:
        from timm.data.mixup import Mixup

        return Mixup(mixup, cutmix, label_smoothing=self.label_smoothing, num_classes=self.num_classes)
