"""Applies settings of optimizers and schedules that are given on resume; Lightning would restore the old ones.

A checkpoint has the optimizer's state (momentum and the like) and, beside it, the settings of its parameter groups and
of its schedule. Restoring puts the old settings back over new ones. Here the stored settings are replaced by the new
ones before Lightning restores them:

    state            kept if the new optimizer has the same state tensors; otherwise it starts from its initial state
    settings         those of the new optimizer
    learning rate    that of the new schedule at the step of the checkpoint; without a schedule, the new one
"""

import warnings
from collections.abc import Collection
from inspect import signature
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from common.errors import UserError
from common.messages.counting import count
from modules.optimizers.schedules import RunLengthScheduler
from pipelines.checkpoints.recorded_settings import concerns_optimizer
from pipelines.checkpoints.restored_optimizers import check_restored, check_schedule, parts, settings_of, step_once

State = dict[str, Any]


class OptimizerSettings(Callback):
    """Replaces the settings in a checkpoint's optimizer states before they are restored.

    Args:
        changed: Names of the settings that have changed since the checkpoint, such as `optimizer.lr`; None if they
            are not known.
    """

    def __init__(self, changed: Collection[str] | None) -> None:
        self.changed = changed

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adapts the checkpoint just before the optimizers are restored, since a module may change them until then."""
        strategy = trainer.strategy
        restore = strategy.load_optimizer_state_dict

        def restore_with_new_settings(checkpoint: State) -> None:
            configured = [(part, settings_of(part)) for optimizer in trainer.optimizers for part in parts(optimizer)]
            self.adapt(trainer, checkpoint)
            restore(checkpoint)
            for part, settings in configured:
                check_restored(part, settings)

        strategy.load_optimizer_state_dict = restore_with_new_settings  # type: ignore[method-assign, assignment]

    def adapt(self, trainer: Trainer, checkpoint: State) -> None:
        """Replaces settings in a checkpoint by those of the trainer's new optimizers.

        Raises:
            ValueError: If the checkpoint lacks the state of an optimizer, or a schedule is too short.
        """
        if self.changed is not None and not concerns_optimizer(self.changed):
            if len(checkpoint["optimizer_states"]) != len(trainer.optimizers):
                raise UserError(
                    f"The checkpoint has the state of {len(checkpoint['optimizer_states'])} optimizers, but the model "
                    f"has {len(trainer.optimizers)}; use another checkpoint of the run."
                )
            for config, stored_schedule in zip(trainer.lr_scheduler_configs, checkpoint["lr_schedulers"], strict=False):
                check_schedule(config.scheduler, stored_schedule)
            return
        checkpoint["lr_schedulers"] = [
            _forwarded(config, checkpoint, index) for index, config in enumerate(trainer.lr_scheduler_configs)
        ]
        follow_metrics = {
            id(config.scheduler.optimizer) for config in trainer.lr_scheduler_configs if not _by_step(config)
        }
        changed = self.changed or ()
        another, new_rate = "optimizer" in changed, any(key.endswith("lr") for key in changed)
        stored, states, reset = checkpoint["optimizer_states"], [], []
        for index, optimizer in enumerate(trainer.optimizers):
            if not another and index < len(stored) and _keeps_state(optimizer, stored[index]):
                keep_rate = id(optimizer) in follow_metrics and not new_rate
                states.append(_with_settings(stored[index], optimizer, keep_rate))
            else:
                states.append(optimizer.state_dict())
                reset.append(type(optimizer).__name__)
        checkpoint["optimizer_states"] = states
        if reset:
            _print(
                f"optimizer: {' and '.join(reset)} starts from its initial state, because the checkpoint has the state "
                "of another optimizer"
            )


def _by_step(config: Any) -> bool:
    """Returns whether a schedule depends on the step alone: the project's and torch's, except ReduceLROnPlateau."""
    known = type(config.scheduler).__module__ == LRScheduler.__module__ or isinstance(
        config.scheduler, RunLengthScheduler
    )
    return known and not isinstance(config.scheduler, ReduceLROnPlateau)


def _forwarded(config: Any, checkpoint: State, index: int) -> State:
    """Moves a new schedule to the step of the checkpoint and returns its state."""
    schedule = config.scheduler
    fresh: State = schedule.state_dict()
    if not _by_step(config):
        old = dict(enumerate(checkpoint["lr_schedulers"])).get(index, {})
        settings = {key: value for key, value in fresh.items() if key in signature(type(schedule)).parameters}
        return {**old, **settings} if old.keys() == fresh.keys() else fresh
    steps = checkpoint["global_step"] if config.interval == "step" else _epochs(checkpoint) // config.frequency
    if isinstance(schedule, RunLengthScheduler):  # `begin` sets the rate
        return {**fresh, "last_epoch": steps, "_step_count": steps + 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer has made no step yet
        try:
            for _ in range(steps):
                schedule.step()
        except ValueError as error:  # OneCycleLR ends
            name = type(schedule).__name__
            raise UserError(
                f"{name} is shorter than the {count(steps, 'step')} of the checkpoint; make it longer."
            ) from error
    state: State = schedule.state_dict()
    return state


def _epochs(checkpoint: State) -> int:
    """Returns the steps of a schedule in epochs before a checkpoint: one after the last batch of each epoch."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return int(epochs["ready"] if ended_epoch(checkpoint) else epochs["completed"])


def ended_epoch(checkpoint: State) -> bool:
    """Returns whether a checkpoint was written after the last batch of an epoch."""
    return bool(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"])


def _with_settings(stored: State, optimizer: Optimizer, keep_rate: bool) -> State:
    """Returns a stored state with the optimizer's settings, except for the learning rate if it is kept."""
    kept = {"params", "lr"} if keep_rate else {"params"}
    groups = [
        {**old, **{key: value for key, value in new.items() if key not in kept}}
        for old, new in zip(stored["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**stored, "param_groups": groups}


def _keeps_state(optimizer: Optimizer, stored: State) -> bool:
    """Returns whether the optimizer can continue with the stored state tensors of each parameter."""
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if [len(group["params"]) for group in stored["param_groups"]] != sizes:
        return False
    kinds = _kinds_of_state(optimizer)
    if kinds is None:  # the optimizer can't be probed: kept if it has the same settings
        return [group.keys() for group in stored["param_groups"]] == [g.keys() for g in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    indices = [index for group in stored["param_groups"] for index in group["params"]]
    for index, parameter in zip(indices, parameters, strict=True):
        state = stored["state"].get(index, {})
        # Muon treats some tensors like vectors, such as depthwise filters.
        if any(value is not None for value in state.values()) and state.keys() not in kinds[-min(2, parameter.ndim) :]:
            return False
    return True


def _kinds_of_state(optimizer: Optimizer) -> list[set[str]] | None:
    """Returns the names of an optimizer's state tensors for a matrix and for a vector; None if it can't be probed."""
    group, accepted = optimizer.param_groups[0], signature(type(optimizer)).parameters
    settings = {key: value for key, value in group.items() if key in accepted}  # use_muon is for matrices alone
    try:
        return list(map(set, step_once(optimizer, settings, [torch.zeros(8, 8), torch.zeros(8)], group["lr"])))
    except Exception:  # an optimizer with another interface, such as a chained one
        return None


@rank_zero_only
def _print(message: str) -> None:
    print(message)
