"""Determines whether a run to be resumed has already finished, and the settings that train it longer."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from common.messages.counting import count


class EarlyStoppingAsGiven(Callback):
    """Applies `min_epochs` and the patience given on resume to early stopping; Lightning restores the old patience."""

    def __init__(self) -> None:
        self._patience: dict[EarlyStopping, int] = {}

    def setup(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        self._patience = {each: each.patience for each in trainer.callbacks if isinstance(each, EarlyStopping)}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs after the states of callbacks have been restored."""
        for callback, patience in self._patience.items():
            callback.patience, callback.stopped_epoch = patience, 0

    def on_train_epoch_start(self, trainer: Any, pl_module: LightningModule) -> None:
        """Forgets a stop before `min_epochs`; Lightning would end the run there even after an improvement."""
        if not trainer.should_stop or trainer.current_epoch >= (trainer.min_epochs or 0):
            return
        stopped = [each for each in self._patience if each.stopping_reason is not EarlyStoppingReason.NOT_STOPPED]
        if trainer.strategy.reduce_boolean_decision(bool(stopped), all=False):  # all ranks decide alike
            trainer.should_stop = False
            for callback in stopped:
                callback.stopped_epoch, callback.stopping_reason = 0, EarlyStoppingReason.NOT_STOPPED


def already_finished(checkpoint: Mapping[str, Any], trainer: Any) -> str | None:
    """Returns why the run of a checkpoint is finished under the settings of a trainer; None if it can continue."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    states: Mapping[str, Any] = checkpoint.get("callbacks") or {}
    if trainer.max_epochs is not None and -1 < trainer.max_epochs <= progress["processed"]:
        return f"it has {count(progress['processed'], 'epoch')}, and trainer.max_epochs is {trainer.max_epochs}"
    if -1 < trainer.max_steps <= checkpoint["global_step"]:
        return f"it has {count(checkpoint['global_step'], 'step')}, and trainer.max_steps is {trainer.max_steps}"
    too_short = progress["processed"] < (trainer.min_epochs or 0) or checkpoint["global_step"] < (
        trainer.min_steps or 0
    )
    for callback in trainer.callbacks:
        state = states.get(callback.state_key) if isinstance(callback, Timer | EarlyStopping) else None
        if state is None:
            continue
        if isinstance(callback, EarlyStopping) and not too_short and (reason := _stopped_early(callback, state)):
            return f"EarlyStopping ended it ({reason})"
        if isinstance(callback, Timer) and (duration := _duration(callback)) is not None:
            elapsed = state["time_elapsed"].get("train", 0)
            if elapsed >= duration:
                return f"it has trained for {timedelta(seconds=round(elapsed))}, and trainer.max_time is over"
    return None


def _stopped_early(callback: EarlyStopping, state: Mapping[str, Any]) -> str | None:
    """Returns why early stopping ended the run and would end it again; None if it would not."""
    reason = EarlyStoppingReason(state.get("stopping_reason", 0))
    if reason is EarlyStoppingReason.PATIENCE_EXHAUSTED:
        times = f"{callback.monitor} did not improve {state['wait_count']} times, patience {callback.patience}"
        return times if callback.patience <= state["wait_count"] else None
    return None if reason is EarlyStoppingReason.NOT_STOPPED else str(state["stopping_reason_message"]).split(". ")[0]


def longer(trainer: Any) -> str | None:
    """Returns command-line settings that double the length of a run; None if early stopping has ended it."""
    if any(isinstance(callback, EarlyStopping) and callback.stopped_epoch for callback in trainer.callbacks):
        return None
    settings = []
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        settings.append(f"--trainer.max_epochs {2 * trainer.max_epochs}")
    if trainer.max_steps > 0:
        settings.append(f"--trainer.max_steps {2 * trainer.max_steps}")
    for callback in trainer.callbacks:
        if isinstance(callback, Timer) and (duration := _duration(callback)) is not None:
            hours, seconds = divmod(round(2 * duration), 3600)
            days, hours = divmod(hours, 24)
            settings.append(f"--trainer.max_time {days:02}:{hours:02}:{seconds // 60:02}:{seconds % 60:02}")
    return " ".join(settings) or None


def _duration(timer: Timer) -> float | None:
    """Returns the duration of a timer in seconds; None if it has no limit."""
    remaining = timer.time_remaining()
    return None if remaining is None else remaining + timer.time_elapsed()
