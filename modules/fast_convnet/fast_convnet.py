"""The CIFAR-10 speed record's recipe: a small convolutional network and its training.

    whitening 2×2 – GELU – {conv 3×3 – pool – norm – GELU – conv 3×3 – norm – GELU} × 3 – max over positions – linear

The network:

    whitening         the first layer decorrelates patches; only its bias is trained (`whitening.py`)
    convolutions      start as the identity (Dirac initialization, `matrix_conv.py`)
    norm              batch normalization without scale, since the next layer has one; its running averages have
                      momentum 0.4, since a run has few steps
    head              divides the logits by 9, which keeps the loss flat until the features are good

The recipe, in the order of a run; each part is a setting, and docs/fast_recipe.md says what it is worth:

    whitening fit     the first layer is fitted to the patches of 5,000 training images
    optimizer         Muon for the filters and Nesterov SGD for the rest, or SGD for all; `bias_lr_scale` times the
                      learning rate for the biases (`fast_optimizers.py`)
    schedule          linear decay from the first step with Muon, a triangle with SGD (`schedules.py`)
    label smoothing   the target leaves the probability ε to all classes (`label_smoothing.py`)
    whitening bias    is trained in the first epochs only; then the backward pass ends one layer earlier
    filter norms      are reset after each Muon step, since batch normalization cancels them
    lookahead         with SGD: the weights move back to a slow average every 5 steps (`lookahead.py`)
    test time         logits are averaged over mirrored and shifted views (`test_time_augmentation.py`)

The data module crops with reflected borders of two pixels and mirrors images in alternate epochs; training runs in
bfloat16 with channels last. `fast_training.py` calls the parts from Lightning's hooks.

Source: K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498, and the same author's later
version with Muon, 2.59 s; the record is 1.99 s (https://www.hiverge.ai/blog/cifar-speedrun, October 2025). `residual`
and wider groups are for 96 % (section 4).

    python -m pipelines.train fit --config fast_convnet

Shapes: B images in a batch, C channels, H×W pixels, M channels of a group, K classes.
"""

from collections.abc import Sequence
from math import log
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from modules.base.half_precision import at_least_float32
from modules.fast_convnet.fast_optimizers import ChainedOptimizer, decoupled_sgd, filter_muon, normalize
from modules.fast_convnet.fast_training import FastTraining
from modules.fast_convnet.lookahead import float_state
from modules.fast_convnet.matrix_conv import MatrixConv2d
from modules.fast_convnet.setting_checks import FilterOptimizer, check_network, check_recipe
from modules.fast_convnet.test_time_augmentation import TestTimeAugmentation, augmented_logits
from modules.fast_convnet.whitening import Whitening
from modules.optimizers.schedules import Triangular

_NORM_MOMENTUM = 0.4
_HEAD_SCALE = 1 / 9


class ConvGroup(nn.Module):
    """Convolutions with max pooling after the first: maps (B, C, H, W) to maps (B, M, H/2, W/2).

    Args:
        channels: Input channels C.
        width: Output channels M.
        convs: Number of convolutions, ≥ 1.
        dirac: Initialize them as the identity.
        residual: Add the first convolution's activations before the last GELU (K. He et al., arXiv 1512.03385).
    """

    def __init__(self, channels: int, width: int, convs: int, dirac: bool, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.convs = nn.ModuleList(MatrixConv2d(width if i else channels, width, 3, dirac) for i in range(convs))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, momentum=_NORM_MOMENTUM) for _ in range(convs))
        for norm in self.norms:
            norm.weight.requires_grad_(False)

    def forward(self, maps: Tensor) -> Tensor:
        first = maps = F.gelu(self.norms[0](F.max_pool2d(self.convs[0](maps), 2)))
        for number, (conv, norm) in enumerate(zip(self.convs[1:], self.norms[1:], strict=True), start=2):
            maps = norm(conv(maps))
            if self.residual and number == len(self.convs):
                maps = maps + first
            maps = F.gelu(maps)
        return maps


class FastNetwork(nn.Module):
    """The network: images (B, C, H, W) to logits (B, K); its arguments are those of `FastConvNet`."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        widths: Sequence[int],
        convs_per_group: int,
        residual: bool,
        whitening: bool,
        dirac: bool,
        whitening_epsilon: float,
    ) -> None:
        super().__init__()
        check_network(input_shape, widths, convs_per_group)
        channels = input_shape[0]
        self.first: Whitening | nn.Conv2d = (
            Whitening(channels, epsilon=whitening_epsilon) if whitening else nn.Conv2d(channels, 8 * channels, 2)
        )
        groups, previous = [], len(self.first.weight)  # 8C in both cases
        for width in widths:
            groups.append(ConvGroup(previous, width, convs_per_group, dirac, residual))
            previous = width
        self.groups = nn.Sequential(*groups)
        self.head = nn.Linear(previous, num_classes, bias=False)
        self.to(memory_format=torch.channels_last)  # twice as fast in half precision, on GPUs and CPUs

    def forward(self, images: Tensor) -> Tensor:
        maps = F.gelu(self.first(images.contiguous(memory_format=torch.channels_last)))  # (B, 8C, H − 1, W − 1)
        logits: Tensor = self.head(self.groups(maps).amax((2, 3)))
        return logits * _HEAD_SCALE

    def filters(self) -> list[nn.Parameter]:
        """Returns the matrices (M, fan-in) of the groups' convolutions."""
        return [layer.weight for layer in self.modules() if isinstance(layer, MatrixConv2d)]

    def biases(self) -> list[nn.Parameter]:
        """Returns the biases of the first layer and the normalizations."""
        return [parameter for name, parameter in self.named_parameters() if name.endswith("bias")]

    def other_weights(self) -> list[nn.Parameter]:
        """Returns the weights of the last layer, and of the first layer if it is trained."""
        layers = (self.head, self.first)
        return [layer.weight for layer in layers if isinstance(layer.weight, nn.Parameter)]


class FastConvNet(FastTraining):
    """Trains a small convolutional network by the CIFAR-10 speed record's recipe.

    Args:
        input_shape: Shape (C, H, W) of the images; H and W > 2 ** len(widths).
        num_classes: Number of classes K, ≥ 2.
        widths: Channels M of each group, each ≥ 1.
        convs_per_group: Convolutions of a group, ≥ 1.
        residual: Add a residual connection from a group's first convolution to its last.
        whitening: Fit the first layer to training patches and freeze it; otherwise it is random and trained.
        whitening_epsilon: ε added to each variance of the whitening, ≥ 0. 5e-4 suits uncompressed images. JPEG leaves
            little but its own errors in the fine detail of color; 2e-2 suppresses them.
        whitening_bias_epochs: Epochs in which the bias of the whitening is trained, ≥ 0 and at most those of the run.
        dirac: Initialize convolutions as the identity.
        optimizer: Optimizer of the filters: muon or sgd.
        lr: Learning rate of SGD per 1,024 images, > 0; about 6 with muon, 10 with sgd.
        weight_decay: Weight decay of SGD per 1,024 images, ≥ 0.
        momentum: Momentum of SGD, in (0, 1).
        bias_lr_scale: Factor of the biases' learning rate, > 0.
        filter_lr: Learning rate of Muon: relative change of a layer in one step, > 0.
        filter_momentum: Momentum of Muon, in [0, 1).
        schedule_start: Factor of the learning rates at the first step, in [0, 1]; 0.2 with sgd.
        schedule_peak: Fraction of the run after which the learning rates are full, in [0, 1); 0.23 with sgd.
        schedule_end: Factor of the learning rates at the end, in [0, 1]; 0.07 with sgd.
        lookahead: Steps between updates of lookahead's slow weights, ≥ 0; 0 disables lookahead.
        label_smoothing: Label smoothing ε, in [0, 1).
        test_time_augmentation: Views averaged in test and predict: one, mirror or mirror_and_shift.
        compile: Compile the network with torch.compile.

    Raises:
        ValueError: If a value is out of its range, or the inputs are not images.
    """

    class_templates: ClassVar[bool] = False  # whether `templates` has one for each class
    network: FastNetwork

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        widths: Sequence[int] = (64, 256, 256),
        convs_per_group: int = 2,
        residual: bool = False,
        whitening: bool = True,
        whitening_epsilon: float = 5e-4,
        whitening_bias_epochs: int = 3,
        dirac: bool = True,
        optimizer: FilterOptimizer = "muon",
        lr: float = 6.0,
        weight_decay: float = 0.013,
        momentum: float = 0.85,
        bias_lr_scale: float = 64.0,
        filter_lr: float = 0.24,
        filter_momentum: float = 0.6,
        schedule_start: float = 1.0,
        schedule_peak: float = 0.0,
        schedule_end: float = 0.0,
        lookahead: int = 0,
        label_smoothing: float = 0.2,
        test_time_augmentation: TestTimeAugmentation = "mirror_and_shift",
        compile: bool = False,
    ) -> None:
        super().__init__(num_classes)
        check_recipe(
            optimizer, bias_lr_scale, whitening_bias_epochs, lookahead, label_smoothing, test_time_augmentation
        )
        self.save_hyperparameters(logger=False)
        self.label_smoothing, self.test_time_augmentation = label_smoothing, test_time_augmentation
        self.network = FastNetwork(
            input_shape, num_classes, widths, convs_per_group, residual, whitening, dirac, whitening_epsilon
        )
        if optimizer == "muon":
            normalize(self.network.filters())
        self.example_input_array = torch.zeros(2, *input_shape)
        self.compiled = compile
        if compile:
            self.network.compile()  # in place, so that the names of the weights are unchanged

    @property
    def whitening(self) -> Whitening | None:
        """The whitening layer, which is fitted to training images before the first step; None if `whitening` is off."""
        return self.network.first if isinstance(self.network.first, Whitening) else None

    def optimizer_for(self, batch_size: int) -> tuple[Optimizer, Triangular]:
        """Returns the optimizer for steps of `batch_size` images and its schedule, whose length `begin` sets later."""
        settings, network = self.hparams, self.network
        filters, others, muon = network.filters(), network.other_weights(), settings["optimizer"] == "muon"
        optimizer: Optimizer = decoupled_sgd(
            [(others if muon else [*filters, *others], 1.0), (network.biases(), settings["bias_lr_scale"])],
            settings["lr"],
            settings["weight_decay"],
            settings["momentum"],
            batch_size,
        )
        if muon:
            by_muon = filter_muon(filters, settings["filter_lr"], settings["filter_momentum"])
            optimizer = ChainedOptimizer(by_muon, optimizer)
        start, peak, end = (settings[f"schedule_{name}"] for name in ("start", "peak", "end"))
        return optimizer, Triangular(optimizer, start, peak, end)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        # The compiled network is for training only: evaluation would compile it again for each shape and mode.
        logits: Tensor = self.network(images) if self.training else self.network.forward(images)
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, with label smoothing in training: logits (B, K), labels (B,) to a scalar."""
        return F.cross_entropy(
            at_least_float32(logits), labels, label_smoothing=self.label_smoothing if self.training else 0.0
        )

    def trains_whitening_bias(self, epoch: int) -> bool:
        """Returns whether the bias of the whitening is trained in an epoch, counted from 0."""
        return bool(epoch < self.hparams["whitening_bias_epochs"])

    def finish_step(self, step: int, total_steps: int) -> None:
        """Resets the filter norms and applies lookahead after the optimizer's step `step`, counted from 1."""
        if self.hparams["optimizer"] == "muon":
            normalize(self.network.filters())
        if self.slow_weights is not None:
            self.slow_weights.after_step(float_state(self.network), step, total_steps)

    def test_logits(self, images: Tensor) -> Tensor:
        """Logits (B, K) in test and predict: the mean over the views of each image (B, C, H, W)."""
        return augmented_logits(self, images, self.test_time_augmentation)

    def expected_initial_loss(self) -> float:
        """Returns ln K: with nearly equal logits every class has probability 1/K, with any label smoothing."""
        return log(self.num_classes)

    def templates(self) -> Tensor:
        """Returns the filters of the first convolution, (8C, C, 2, 2)."""
        return self.network.first.weight.detach()
