"""Any model of timm as a classifier, made ready for small images, with what a good training recipe needs.

    stem              networks for images of 224 pixels begin by shrinking them to a quarter; for 32 pixels the first
                      convolution becomes 3×3 with stride 1 and the max pooling after it is left out
                      (K. He et al., arXiv 1512.03385, section 4.2)
    label smoothing   the target is 1 − ε for the true class plus ε/K for every class (arXiv 1512.00567)
    mixup             λ x₁ + (1 − λ) x₂ with target λ y₁ + (1 − λ) y₂, λ drawn from Beta(α, α) (arXiv 1710.09412)
    cutmix            a rectangle of x₂ pasted into x₁, the targets mixed by area (arXiv 1905.04899)
    mirror            in `test` and `predict` the logits are the mean of those of an image and of its mirror image

An average of the weights over the training is Lightning's callback EMAWeightAveraging, the cosine schedule with warm-up
`schedules.py`; the topic's configuration has both.

    python -m pipelines.train fit --config resnet
    python -m pipelines.train fit --config resnet --model.name resnet50 --model.pretrained hub --model.image_size 128

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from math import log
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.classifier import Classifier
from modules.normalization import ONE_IMAGE


class TimmClassifier(Classifier):
    """A network of timm with a classifier of `num_classes` classes.

    Args:
        input_shape: (C, H, W) of the images.
        num_classes: K, at least 2.
        name: of the model in timm, such as resnet18 or convnext_tiny.
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
        name: str = "resnet18",
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
            raise ValueError(
                f"{name} takes images (C, H, W), but the data has shape {tuple(input_shape)}; give a preprocessing "
                "that keeps them images, such as standardize."
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; give a share from 0 up to, but not, 1.")
        if not (mixup >= 0 and cutmix >= 0):
            raise ValueError(f"mixup is {mixup} and cutmix is {cutmix}; give 0 (without) or more for each.")
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size is {image_size}; give at least 1 pixel.")
        self.save_hyperparameters(logger=False)
        self.image_size = image_size
        self.label_smoothing = label_smoothing
        self.mirror_test = mirror_test
        self.freeze_backbone = freeze_backbone
        self.network = _create(name, num_classes, input_shape[0], pretrained, options or {})
        if small_stem:
            _enlarge_stem(self.network, name)
        if freeze_backbone:
            self.network.requires_grad_(False)
            self._head.requires_grad_(True)
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
                raise ValueError(ONE_IMAGE) from error
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
            raise ValueError(
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
        return _first_convolution(self.network).weight.detach()

    @property
    def _head(self) -> nn.Module:
        head: nn.Module = self.network.get_classifier()  # type: ignore[operator]
        return head

    def _mixup(self, mixup: float, cutmix: float) -> Any:
        from timm.data.mixup import Mixup

        return Mixup(mixup, cutmix, label_smoothing=self.label_smoothing, num_classes=self.num_classes)


def _create(
    name: str, num_classes: int, channels: int, pretrained: str | None, options: Mapping[str, Any]
) -> nn.Module:
    """The network with its weights; its last layer small, so that all classes start level.

    Raises:
        ValueError: an unknown name, arguments that the model refuses, or weights that are missing or don't fit.
    """
    import timm  # takes a second and a half to import

    if not timm.is_model(name.split(".")[0]):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models('*resnet*') lists some."
        raise ValueError(f"timm has no model {name!r}; {hint}")
    arguments: dict[str, Any] = {"in_chans": channels, **options}
    if pretrained is None:
        arguments["num_classes"] = num_classes
    elif pretrained != "hub":
        if not Path(pretrained).is_file():
            raise ValueError(f"pretrained is {pretrained!r}, and there is no such file; give hub or a file of weights.")
        arguments["pretrained_cfg_overlay"] = {"file": pretrained}
    elif not timm.is_model_pretrained(name):
        raise ValueError(f"timm knows no pretrained weights for {name!r}; give a file of weights, or leave it out.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = timm.create_model(name, pretrained=pretrained is not None, **arguments)
            if pretrained is not None:  # timm checks that all weights fit only while the classes are the weights' own
                network.reset_classifier(num_classes)  # type: ignore[operator]
    except Exception as error:  # timm, torch and the hub each raise what they please
        reason = " ".join(str(error).split())[:300].rstrip(".")
        if pretrained is not None:
            raise ValueError(
                f"The weights {pretrained!r} can't be used for {name}: {reason}; give weights of this very model."
            ) from error
        raise ValueError(f"timm can't make {name} with {dict(options)}: {reason}.") from error
    head = network.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    return network


def _first_convolution(network: nn.Module) -> nn.Conv2d:
    """The network's first convolution.

    Raises:
        ValueError: the network has none.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            return layer
    raise ValueError(f"{type(network).__name__} has no convolution whose filters could be shown.")


def _enlarge_stem(network: nn.Module, model: str) -> None:
    """Lets the first convolution keep the size of its images, and takes away the pooling after it.

    Raises:
        ValueError: a network that cuts the image into patches instead.
    """
    conv = _first_convolution(network)
    if conv.stride == (1, 1):
        return
    if conv.kernel_size == conv.stride:
        raise ValueError(
            f"{model} cuts images into patches of {conv.stride[0]} pixels and has no stem to enlarge; give "
            "--model.small_stem false, and --model.options '{patch_size: 4}' for smaller patches if it takes them."
        )
    conv.stride = (1, 1)
    if conv.kernel_size[0] > 3:
        margin = (conv.kernel_size[0] - 3) // 2
        conv.weight = nn.Parameter(conv.weight.detach()[..., margin : margin + 3, margin : margin + 3].clone())
        conv.kernel_size, conv.padding = (3, 3), (1, 1)
    for pool_name, layer in network.named_modules():
        if isinstance(layer, nn.MaxPool2d):
            parent, _, child = pool_name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())
            return
