"""Any timm model as a classifier, adapted to small images, with the parts of a good training recipe.

    stem              for small images: `backbones.py`
    label smoothing   the target leaves the probability ε to all classes (`label_smoothing.py`)
    mixup             λ x₁ + (1 − λ) x₂ with target λ y₁ + (1 − λ) y₂, λ drawn from Beta(α, α) (arXiv 1710.09412)
    cutmix            a rectangle of x₂ pasted into x₁, the targets mixed by area (arXiv 1905.04899)
    mirror            `test` and `predict` average the logits of an image and of its horizontal flip

The topic's configuration adds Lightning's EMAWeightAveraging, a cosine schedule with warmup (`schedules.py`) and Muon
(`muon.py`). Muon's large steps suit randomly initialized weights. Pretrained weights need AdamW with a small learning
rate (`--optimizer torch.optim.AdamW --optimizer.lr 1e-3`), their own stem, and images closer in size to those of
pretraining.

    python -m pipelines.train fit --config resnet
    python -m pipelines.train fit --config resnet --model.backbone resnet50 --model.pretrained hub \\
        --model.small_stem false

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

from math import log
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import check_range
from modules.base.classifier import Classifier
from modules.base.half_precision import at_least_float32
from modules.base.label_smoothing import check_label_smoothing
from modules.networks.backbones import create_backbone, first_convolution
from modules.networks.normalization import ONE_IMAGE


class TimmClassifier(Classifier):
    """A timm network with a new linear classifier on top.

    Args:
        input_shape: Shape (C, H, W) of the images.
        num_classes: Number of classes K, ≥ 2.
        backbone: Name of the model in timm, such as resnet18 or convnext_tiny.
        small_stem: Replace the first convolution and pooling, which would quarter the size, by one with stride 1.
        pretrained: Pretrained weights: hub downloads those that timm names for the model, a path reads a file
            (.safetensors or .pth), None initializes at random. The last layer is always initialized at random.
        freeze_backbone: Train only the last layer, on the features of the pretrained network.
        image_size: Side in pixels to which images are resized before the network; None keeps their size.
        label_smoothing: Label smoothing ε, in [0, 1).
        mixup: Parameter α of mixup, ≥ 0; 0 turns it off.
        cutmix: Parameter α of cutmix, ≥ 0; 0 turns it off. With both, each batch gets one of the two.
        mirror_test: Average the logits of an image and its horizontal flip in `test` and `predict`.
        compile: Compile the network with torch.compile.
        options: Further arguments of timm.create_model, such as {drop_path_rate: 0.1}.

    Raises:
        ValueError: If a value is out of its range, the model is unknown, or the weights do not fit it.
    """

    class_templates: ClassVar[bool] = False  # `templates` returns one per filter, not per class

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
                f"{backbone} takes images (C, H, W), but the data has shape {tuple(input_shape)}; choose a "
                "preprocessing that keeps them images, such as standardize."
            )
        check_label_smoothing(label_smoothing)
        check_range("mixup", mixup, mixup >= 0, "≥ 0")
        check_range("cutmix", cutmix, cutmix >= 0, "≥ 0")
        check_range("image_size", image_size, image_size is None or image_size >= 1, "at least 1 pixel")
        self.save_hyperparameters(logger=False)
        self.image_size = image_size
        self.label_smoothing = label_smoothing
        self.mirror_test = mirror_test
        self.freeze_backbone = freeze_backbone
        size = input_shape[1:] if image_size is None else (image_size, image_size)
        self.network = create_backbone(
            backbone, num_classes, input_shape[0], pretrained, options or {}, size, small_stem
        )
        if freeze_backbone:
            self.network.requires_grad_(False)
            self._head.requires_grad_(True)
            self.train()  # Lightning starts training in the mode in which the module was built
        self.mix = self._mixup(mixup, cutmix) if mixup or cutmix else None
        self.to(memory_format=torch.channels_last)  # twice as fast in half precision, on GPUs and CPUs
        if compile:
            self.network.compile()  # in place: the keys of the state dict do not change
        self.example_input_array = torch.zeros(2, *input_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, K) of images (B, C, H, W)."""
        if self.image_size is not None:
            images = F.interpolate(images, size=(self.image_size,) * 2, mode="bicubic", antialias=True)
        try:
            logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        except ValueError as error:
            if self.training and len(images) == 1:  # batch norm refuses one image of one position
                raise UserError(ONE_IMAGE) from error
            raise
        return logits

    def test_logits(self, images: Tensor) -> Tensor:
        """Returns logits (B, K) for `test` and `predict`, averaged over both mirror images if `mirror_test` is set."""
        logits: Tensor = self(images)
        return (logits + self(images.flip(-1))) / 2 if self.mirror_test else logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the cross-entropy, smoothed in training, of logits (B, K) and labels (B,) or targets (B, K)."""
        hard = labels.ndim == 1  # mixed targets are smoothed by `training_targets`
        return F.cross_entropy(
            at_least_float32(logits), labels, label_smoothing=self.label_smoothing if self.training and hard else 0.0
        )

    def expected_initial_loss(self) -> float | None:
        """Returns ln K if the last layer is initialized near 0, None for networks with another kind of head."""
        return log(self.num_classes) if isinstance(self._head, nn.Linear) else None

    def training_targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Applies mixup or cutmix, if set: images (B, C, H, W) and labels (B,) to images and targets (B, K)."""
        if self.mix is None:
            return images, labels
        pairs = len(images) // 2 * 2  # timm mixes pairs; the last image of an odd batch stays as it is
        if pairs == 0:
            return images, labels
        mixed, targets = self.mix(images[:pairs], labels[:pairs])
        if pairs < len(images):
            alone = F.one_hot(labels[pairs:], self.num_classes).to(targets.dtype)
            smoothed = (1 - self.label_smoothing) * alone + self.label_smoothing / self.num_classes
            mixed, targets = torch.cat([mixed, images[pairs:]]), torch.cat([targets, smoothed])
        return mixed, targets

    def train(self, mode: bool = True) -> "TimmClassifier":
        """Sets the mode; a frozen backbone stays in evaluation mode, so that its running averages do not change."""
        super().train(mode)
        if self.freeze_backbone:
            self.network.eval()
            self._head.train(mode)
        return self

    def templates(self) -> Tensor:
        """Returns the filters of the first convolution, (M, C, side, side)."""
        return first_convolution(self.network).weight.detach()

    @property
    def _head(self) -> nn.Module:
        head: Any = self.network.get_classifier()  # type: ignore[operator]
        return nn.ModuleList(head) if isinstance(head, tuple) else head  # two for models that learn from a teacher

    def _mixup(self, mixup: float, cutmix: float) -> Any:
        from timm.data.mixup import Mixup

        return Mixup(mixup, cutmix, label_smoothing=self.label_smoothing, num_classes=self.num_classes)
