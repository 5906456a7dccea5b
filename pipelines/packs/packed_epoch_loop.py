"""Epoch loop of a run in a pack: the pack computes the training steps, everything else is the run's own.

Lightning's loop spends about 0.6 ms of Python on each step. A pack takes a step for each of its runs, so this loop
keeps of a step what has an effect: counters, the hooks that a callback or the module overrides, gradient clipping,
optimizer, schedule and, every `log_every_n_steps`, the logged metrics.
"""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from torch import nn

from datamodules.loader import BatchLoader
from pipelines.packs.step_function import MemberStep

_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


_OF_THE_PROJECT = ("callbacks", "lightning", "modules", "pipelines")  # their hooks in a step neither print nor draw


class PackedEpochLoop(_TrainingEpochLoop):
    """Trains the batches of an epoch with the other runs of a pack.

    Args:
        trainer: Trainer of the run.
        wait: Returns when the pack has taken steps of this run, or wants it to train the rest of the epoch by itself.

    Attributes:
        alone: Whether this run trains the rest of the epoch by itself.
        error: What a hook of this run raised in a step of the pack; `advance` raises it.
    """

    def __init__(self, trainer: Trainer, wait: Callable[[], None]) -> None:
        replaced = trainer.fit_loop.epoch_loop
        super().__init__(trainer, replaced.min_steps, replaced.max_steps)
        self.alone = False
        self.error: BaseException | None = None
        self._wait = wait
        self._fetcher: Any = None
        self._hooks: dict[str, list[Callable[..., Any]]] = {}
        self._parameters: list[nn.Parameter] = []
        self._needs_process: bool | None = None

    @property
    def model(self) -> LightningModule:
        return self.trainer.lightning_module

    @property
    def needs_process(self) -> bool:
        """Whether hooks of a step may read what differs between processes, such as numpy's random numbers.

        Those of users may, and a checkpoint stores the state of the random number generators.
        """
        if self._needs_process is None:
            owners = [*getattr(self.trainer, "callbacks", []), self.model]
            self._needs_process = any(map(_may_need_process, owners))
        return self._needs_process

    @property
    def loader(self) -> BatchLoader:
        """The loader of the training batches."""
        loader = self.trainer.train_dataloader
        assert isinstance(loader, BatchLoader)
        return loader

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Trains the rest of the epoch's batches in the pack; a batch by itself if it has to train alone."""
        if self.restarting or self.alone:  # a resumed run first finishes what its checkpoint had begun
            super().advance(data_fetcher)
            self.alone &= not self._num_ready_batches_reached()
            return
        self._fetcher = data_fetcher
        ready = self.batch_progress.current.ready
        self._wait()
        if self.error is not None:
            raise self.error
        if self.batch_progress.current.ready == ready:
            self.alone = True
            self.advance(data_fetcher)

    def next_batch(self) -> tuple[Any, bool]:
        """Returns the next batch, on the device and preprocessed, and whether it is the last of the epoch."""
        trainer: Any = self.trainer
        batch, _, _ = next(self._fetcher)
        batch = trainer.precision_plugin.convert_input(batch)
        batch = self.model._on_before_batch_transfer(batch, dataloader_idx=0)
        return trainer.strategy.batch_to_device(batch, dataloader_idx=0), self._fetcher.done

    def put_back(self) -> None:
        """Puts the last batch back, so that `next_batch`, or Lightning's own loop, returns it again."""
        ready = self.batch_progress.current.ready
        self.place_loader(ready)
        iter(self._fetcher)
        self._fetcher.fetched += ready

    def place_loader(self, step: int) -> None:
        """Sets the run's loader to a step of the epoch, since the batches come from that of another run."""
        self.loader.load_state_dict({**self.loader.state_dict(), "epoch": self.trainer.current_epoch, "step": step})

    def begin_step(self, batch: Any, is_last: bool) -> None:
        """Does what comes before the training step of a batch."""
        self.batch_progress.is_last_batch = is_last
        self.batch_progress.increment_ready()
        self.trainer._logger_connector.on_batch_start(batch)
        self._call("on_train_batch_start", batch, self.batch_idx)
        self.batch_progress.increment_started()

    def end_step(self, batch: Any, step: MemberStep) -> None:
        """Does what comes after the training step of a batch: the optimizer's step, schedules, hooks and metrics."""
        trainer: Any = self.trainer
        model: Any = self.model
        optimizer = trainer.optimizers[0]
        progress = self.automatic_optimization.optim_progress.optimizer
        with trainer.precision_plugin.train_step_context():  # 64-true sums in float64
            model.count_training_batch(step.number, **step.sums)
        progress.step.increment_ready()
        progress.zero_grad.increment_ready()
        self._call("on_before_zero_grad", optimizer)
        progress.zero_grad.increment_started()
        progress.zero_grad.increment_completed()
        self._call("on_before_backward", step.loss)
        if not self._parameters:
            self._parameters = list(model.parameters())  # listing them takes as long as a step of SGD
        for parameter, gradient in zip(self._parameters, step.gradients, strict=True):
            if parameter.requires_grad:
                parameter.grad = gradient
        self._call("on_after_backward")
        self._call("on_before_optimizer_step", optimizer)
        if trainer.gradient_clip_val is not None:
            trainer.precision_plugin._clip_gradients(
                model, optimizer, trainer.gradient_clip_val, gradient_clip_algorithm=trainer.gradient_clip_algorithm
            )
        optimizer.step()
        progress.step.increment_completed()
        self.batch_progress.increment_processed()
        self.place_loader(self.batch_progress.current.ready)
        is_last = self.batch_progress.is_last_batch
        if trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
            if is_last:
                self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        self._call("on_train_batch_end", {"loss": step.loss}, batch, self.batch_idx)
        if trainer._logger_connector.should_update_logs or is_last:
            trainer._logger_connector.on_batch_end()
            self.batch_progress.increment_completed()
            trainer._logger_connector.update_train_step_metrics()
        else:  # nothing new to log
            self._results.batch = self._results.batch_size = None
            self.batch_progress.increment_completed()
        if not is_last:  # else `on_advance_end` does it
            self._batches_that_stepped += 1
            self._save_loggers_on_train_batch_end()

    def _call(self, name: str, *arguments: Any) -> None:
        """Calls a hook of the callbacks and the module that override it."""
        if not self._hooks:
            self._hooks = {hook: self._overriding(hook) for hook in _HOOKS}
        attributes = vars(self.model)  # setting an attribute of a module takes 20 times as long
        for hook in self._hooks[name]:
            attributes["_current_fx_name"] = name
            hook(*arguments)
        attributes["_current_fx_name"] = None

    def _overriding(self, name: str) -> list[Callable[..., Any]]:
        trainer: Any = self.trainer
        hooks = []
        for callback in trainer.callbacks:
            if _overrides(callback, name, Callback):
                hooks.append(_bound(getattr(callback, name), trainer, self.model))
        if _overrides(self.model, name, LightningModule):
            hooks.append(getattr(self.model, name))
        return hooks


def _bound(hook: Callable[..., Any], trainer: Trainer, model: LightningModule) -> Callable[..., Any]:
    return lambda *arguments: hook(trainer, model, *arguments)


def _overrides(owner: Any, name: str, base: type) -> bool:
    """Returns whether a hook is that of a subclass or of the object itself, as in a `LambdaCallback`."""
    return getattr(getattr(owner, name), "__func__", None) is not getattr(base, name)


def _may_need_process(owner: Any) -> bool:
    if isinstance(owner, ModelCheckpoint) and (owner._every_n_train_steps or owner._train_time_interval):
        return True
    base = LightningModule if isinstance(owner, LightningModule) else Callback
    hooks = [getattr(owner, name) for name in _HOOKS if _overrides(owner, name, base)]
    modules = {type(owner).__module__, *(hook.__module__ for hook in hooks)}
    return bool(hooks) and any(module.partition(".")[0] not in _OF_THE_PROJECT for module in modules)
