"""CIFAR-10 to 94 % as fast as is known: a small convolutional network and everything that makes it learn quickly.

What each part is for; each can be switched off, and docs/fast_recipe.md tells what it is worth:

    network           whitened patches, convolutions that begin as the identity, few channels (`fast_network.py`)
    whitening bias    learns in the first epochs alone; then the backward pass ends one layer earlier
    biases            learn `bias_lr_scale` times as fast as the rest: without scales they alone place the features
    label smoothing   the target is 1 − ε for the true class plus ε/K for every class (arXiv 1512.00567)
    optimizer         Muon for the filters and Nesterov's SGD for the rest, or SGD for all (`update_rules.py`)
    schedule          straight down from the first step with Muon, a triangle with SGD (`schedules.py`)
    lookahead         with SGD: the weights are drawn back to a slow copy every 5 steps (`lookahead.py`)
    views             tests look at mirrored and shifted images too (`test_time_augmentation.py`)
    data              crops of two reflected pixels and alternating mirroring (datamodules/images/augmentation.py)
    numbers           bfloat16 with channels last; `compile` fuses what lies between the convolutions

Source: K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498, and the same author's later
version with Muon, 2.59 s; larger networks for 96 % in its section 4.

    python -m pipelines.train fit --config fast_convnet

Shapes: B images in a batch, C channels, H×W pixels, M channels of a group, K classes.
"""

from collections.abc import Sequence
from math import log
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from common.errors import UserError
from modules.base.classifier import Classifier, ImageBatch
from modules.fast_convnet.fast_network import FastNetwork
from modules.fast_convnet.lookahead import Lookahead
from modules.fast_convnet.test_time_augmentation import Views, mean_over_views
from modules.fast_convnet.whitening import Whitening
from modules.optimizers.schedules import Triangular
from modules.optimizers.update_rules import ChainedOptimizer, decoupled_sgd, filter_muon, normalize

Rule = Literal["muon", "sgd"]
_FITTED_IMAGES = 5000  # whose patches the whitening is fitted to: 5 million of them


@runtime_checkable
class TrainingData(Protocol):
    """What is asked of a datamodule."""

    batch_size: int  # of a process

    def training_images(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """The first so many of the training split, or all: preprocessed images (N, C, H, W), labels (N,) int64."""


class FastConvNet(Classifier):
    """The network above with its optimizers; trains by bf16-mixed precision in `trainer.max_epochs` epochs.

    Args:
        input_shape: (C, H, W) of the images; H and W above 2 to the power of the number of groups.
        num_classes: K, at least 2.
        widths: M of each group, each at least 1.
        convs_per_group: convolutions of a group, at least 1.
        residual: add a group's first maps to its last ones.
        whitening: fit the first layer to the training patches and leave it so; otherwise it is drawn and learns.
        whitening_epsilon: ε, below which a variance counts as none, at least 0. 5e-4 suits pixels as they were taken;
            JPEG leaves next to nothing of color's fine detail but its own errors, which 2e-2 keeps quiet.
        whitening_bias_epochs: for how many epochs its bias learns, at least 0 and at most those of the run.
        dirac: convolutions begin as the identity.
        optimizer: of the filters: muon or sgd.
        lr: learning rate of SGD, movement per 1,024 images; about 6 with muon, 10 with sgd.
        weight_decay: of SGD, share by which weights shrink per 1,024 images.
        momentum: of SGD, in (0, 1).
        bias_lr_scale: learning rate of the biases as a multiple of `lr`.
        filter_lr: share of its length that Muon changes a layer by in one step, above 0.
        filter_momentum: of Muon, in [0, 1).
        schedule_start: share of the learning rates at the first step, in [0, 1]; 0.2 with sgd.
        schedule_peak: share of the run after which they are full, in [0, 1); 0.23 with sgd.
        schedule_end: share of the learning rates at the end, in [0, 1]; 0.07 with sgd.
        lookahead: draw the weights back every so many steps; 0 leaves it out.
        label_smoothing: ε, in [0, 1).
        test_time_augmentation: Views of an image in `test` and `predict`: one, mirror or mirror_and_shift.
        compile: compile the network with torch.compile.

    Raises:
        ValueError: a value out of the range given above, or inputs that are not images.
    """

    class_templates: ClassVar[bool] = False  # whether `templates` has one for each class

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
        optimizer: Rule = "muon",
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
        test_time_augmentation: Views = "mirror_and_shift",
        compile: bool = False,
    ) -> None:
        super().__init__(num_classes)
        if whitening_bias_epochs < 0 or lookahead < 0:
            raise UserError(
                f"whitening_bias_epochs is {whitening_bias_epochs} and lookahead {lookahead}; give 0 (none) or more."
            )
        if not bias_lr_scale > 0:
            raise UserError(f"bias_lr_scale is {bias_lr_scale}; give a multiple above 0, such as 64.")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing is {label_smoothing}; give a share from 0 up to, but not, 1.")
        for name, choice, accepted in (
            ("optimizer", optimizer, get_args(Rule)),
            ("test_time_augmentation", test_time_augmentation, get_args(Views)),
        ):
            if choice not in accepted:
                raise UserError(f"{name} is {choice!r}; give one of {', '.join(accepted)}.")
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
            self.network.compile()  # in place, so that the names of the weights stay as they are
        self.slow_weights: Lookahead | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        # A compiled network is for training alone: each shape and mode of an evaluation would be compiled anew.
        logits: Tensor = self.network(images) if self.training else self.network.forward(images)
        return logits

    def test_logits(self, images: Tensor) -> Tensor:
        """Logits (B, K) of `test` and `predict`: the mean over the image's views."""
        return mean_over_views(self, images, self.test_time_augmentation)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, smoothed in training: logits (B, K), labels (B,) to a scalar."""
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing if self.training else 0.0)

    def expected_initial_loss(self) -> float:
        """ln K: with nearly equal scores every class has probability 1/K, whatever the smoothing."""
        return log(self.num_classes)

    def templates(self) -> Tensor:
        """The filters of the first convolution: (2D, C, 2, 2)."""
        return self.network.first.weight.detach()

    def setup(self, stage: str) -> None:
        """Fits the whitening and looks at the run, before a checkpoint brings its own."""
        if stage != "fit":
            return
        data, epochs = getattr(self.trainer, "datamodule", None), self.trainer.max_epochs or -1
        if not isinstance(data, TrainingData):
            raise UserError(
                f"{type(self).__name__} whitens training images and counts its learning rate by the batch; train it on "
                "a datamodule with training_images() and batch_size, such as CIFAR10."
            )
        if 0 < epochs < self.hparams["whitening_bias_epochs"] and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise UserError(
                f"whitening_bias_epochs is {self.hparams['whitening_bias_epochs']}, longer than the run's {epochs}; "
                "give at most that, or more --trainer.max_epochs."
            )
        if isinstance(self.network.first, Whitening):
            self.network.first.fit(data.training_images(_FITTED_IMAGES)[0])
        self.slow_weights = Lookahead(self.hparams["lookahead"]) if self.hparams["lookahead"] else None

    def configure_optimizers(self) -> Any:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        batch_size = data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        optimizer, schedule = self.optimizer_for(batch_size)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_for(self, batch_size: int) -> tuple[Optimizer, Triangular]:
        """The optimizer for steps of `batch_size` images, and its schedule, which is to be told yet how long it is."""
        given, network = self.hparams, self.network
        muon = given["optimizer"] == "muon"
        sgd = decoupled_sgd(
            [
                (network.other_weights() if muon else [*network.filters(), *network.other_weights()], 1.0),
                (network.biases(), given["bias_lr_scale"]),
            ],
            given["lr"],
            given["weight_decay"],
            given["momentum"],
            batch_size,
        )
        optimizer: Optimizer = sgd
        if muon:
            optimizer = ChainedOptimizer(
                filter_muon(network.filters(), given["filter_lr"], given["filter_momentum"]), sgd
            )
        return optimizer, Triangular(optimizer, given["schedule_start"], given["schedule_peak"], given["schedule_end"])

    @property
    def _fast_weights(self) -> list[Tensor]:
        return [tensor for tensor in self.network.state_dict().values() if tensor.is_floating_point()]

    def on_train_start(self) -> None:
        super().on_train_start()
        self._total_steps = self.trainer.estimated_stepping_batches
        if self._total_steps == float("inf"):
            raise UserError(
                f"{type(self).__name__}'s learning rate falls to the end of the run, but its length is not known; give "
                "--trainer.max_epochs or --trainer.max_steps."
            )
        schedule: Any = self.lr_schedulers()
        schedule.begin(int(self._total_steps))
        if self.slow_weights is not None:
            self.slow_weights.begin(self._fast_weights)

    def on_train_batch_start(self, batch: ImageBatch, batch_idx: int) -> None:
        first = self.network.first
        # Other processes wait for a gradient, and a compiled graph holds it, even if nobody needs it any more.
        if isinstance(first, Whitening) and not self.compiled and self.trainer.world_size == 1:
            first.bias.requires_grad_(self._bias_learns)  # if not, the backward pass ends one layer earlier

    def on_after_backward(self) -> None:
        first = self.network.first
        if isinstance(first, Whitening) and not self._bias_learns:
            first.bias.grad = None  # optimizers pass over what has no gradient

    @property
    def _bias_learns(self) -> bool:
        return bool(self.current_epoch < self.hparams["whitening_bias_epochs"])

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimizer's step and what belongs to it, so that any checkpoint has all of it or nothing."""
        super().optimizer_step(*args, **kwargs)
        self.finish_step(self.global_step + 1, int(self._total_steps))

    def finish_step(self, step: int, total_steps: int) -> None:
        """What follows the optimizer's step `step`, counted from 1: the filters' length, lookahead."""
        if self.hparams["optimizer"] == "muon":
            normalize(self.network.filters())
        if self.slow_weights is not None:
            self.slow_weights.after_step(self._fast_weights, step, total_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.slow_weights is not None:
            checkpoint["slow_weights"] = self.slow_weights.slow

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.slow_weights is not None:
            self.slow_weights.slow = list(checkpoint.get("slow_weights", []))
