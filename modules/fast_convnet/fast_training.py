"""Lightning's hooks that call the parts of `FastConvNet`'s recipe, and what a checkpoint needs to resume it exactly.

Shapes: N images, C channels, H×W pixels.
"""

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer

from common.errors import UserError
from modules.base.classifier import Classifier, ImageBatch
from modules.fast_convnet.lookahead import Lookahead, float_state
from modules.fast_convnet.whitening import Whitening
from modules.optimizers.schedules import Triangular

_FITTED_IMAGES = 5000  # images that the whitening is fitted to: 5 million patches


@runtime_checkable
class HasTrainingImagesAndBatchSize(Protocol):
    """A data module that returns its training images and knows its batch size."""

    batch_size: int  # of one process

    def training_images(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Returns the first `count` training images, or all: preprocessed (N, C, H, W), and labels (N,) int64."""


class FastTraining(Classifier):
    """Base class of `FastConvNet` that runs its recipe under Lightning's Trainer."""

    network: nn.Module
    compiled: bool

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.slow_weights: Lookahead | None = None

    @property
    @abstractmethod
    def whitening(self) -> Whitening | None:
        """The whitening layer, if there is one."""

    @abstractmethod
    def optimizer_for(self, batch_size: int) -> tuple[Optimizer, Triangular]:
        """Returns the optimizer and its schedule."""

    @abstractmethod
    def trains_whitening_bias(self, epoch: int) -> bool:
        """Returns whether the bias of the whitening is trained in an epoch."""

    @abstractmethod
    def finish_step(self, step: int, total_steps: int) -> None:
        """Changes the weights after an optimizer step."""

    def setup(self, stage: str) -> None:
        """Fits the whitening and creates the slow weights, before a checkpoint is loaded into them."""
        if stage != "fit":
            return
        data, epochs = getattr(self.trainer, "datamodule", None), self.trainer.max_epochs or -1
        if not isinstance(data, HasTrainingImagesAndBatchSize):
            raise UserError(
                f"{type(self).__name__} fits its whitening to training images and sets its learning rate by the batch "
                "size; train it on a data module with training_images() and batch_size, such as CIFAR10."
            )
        bias_epochs = self.hparams["whitening_bias_epochs"]
        if 0 < epochs < bias_epochs and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise UserError(
                f"whitening_bias_epochs is {bias_epochs}, more than the run's {epochs}; it must be at most {epochs}, "
                "or the Trainer's max_epochs larger."
            )
        if self.whitening is not None:
            self.whitening.fit(data.training_images(_FITTED_IMAGES)[0])
        self.slow_weights = Lookahead(self.hparams["lookahead"]) if self.hparams["lookahead"] else None

    def configure_optimizers(self) -> Any:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        batch_size = data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        optimizer, schedule = self.optimizer_for(batch_size)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        super().on_train_start()
        self._total_steps = self.trainer.estimated_stepping_batches
        if self._total_steps == float("inf"):
            raise UserError(
                f"{type(self).__name__}'s learning rate decays until the end of the run, but the run has no end; set "
                "the Trainer's max_epochs or max_steps."
            )
        schedule: Any = self.lr_schedulers()
        if not isinstance(schedule, Triangular):
            raise UserError(
                f"{type(self).__name__} has an optimizer and a schedule of its own; remove optimizer and set "
                "model.optimizer, model.lr and the like, or give lr_scheduler Triangular as well."
            )
        schedule.begin(int(self._total_steps))
        if self.slow_weights is not None:
            self.slow_weights.begin(float_state(self.network))

    def on_train_batch_start(self, batch: ImageBatch, batch_idx: int) -> None:
        # DDP needs this gradient on every rank, and a compiled graph always computes it.
        if self.whitening is not None and not self.compiled and self.trainer.world_size == 1:
            self.whitening.bias.requires_grad_(self.trains_whitening_bias(self.current_epoch))

    def on_after_backward(self) -> None:
        if self.whitening is not None and not self.trains_whitening_bias(self.current_epoch):
            self.whitening.bias.grad = None  # optimizers skip parameters without a gradient

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Takes an optimizer step and finishes it, so that every checkpoint contains both or neither."""
        super().optimizer_step(*args, **kwargs)
        self.finish_step(self.global_step + 1, int(self._total_steps))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.slow_weights is not None:
            checkpoint["slow_weights"] = self.slow_weights.slow

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.slow_weights is not None:
            self.slow_weights.slow = list(checkpoint.get("slow_weights", []))
