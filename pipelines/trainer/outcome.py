"""Reports why a run ended early: fast_dev_run, no training step, early stopping, NaN."""

import math
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only


@rank_zero_only
def print_fast_dev_run(trainer: Trainer, subcommand: str) -> None:
    """Prints the numbers of batches that ran with `fast_dev_run`."""
    attributes: Any = trainer  # some are unknown to mypy
    batches = {
        "fit": (("training", attributes.num_training_batches), ("validation", sum(attributes.num_val_batches))),
        "validate": (("validation", sum(attributes.num_val_batches)),),
        "test": (("test", sum(attributes.num_test_batches)),),
        "predict": (("prediction", sum(attributes.num_predict_batches)),),
    }
    passed = [f"{number} {kind} {'batch' if number == 1 else 'batches'}" for kind, number in batches[subcommand]]
    print(f"fast_dev_run: {' and '.join(passed)} passed; nothing was written.")


@rank_zero_only
def print_outcome(trainer: Trainer, steps_before: int) -> None:
    """Prints why training ended early, and which metrics are not finite.

    Args:
        trainer: Trainer after `fit`.
        steps_before: Steps of the checkpoint that the run was resumed from; 0 for a new run.
    """
    attributes: Any = trainer
    if trainer.global_step == 0 and steps_before == 0:
        print(f"No training step was taken: {_no_step(attributes)}.")
    for callback in attributes.early_stopping_callbacks:
        if callback.stopping_reason_message:
            reason = " ".join(callback.stopping_reason_message.split()).removesuffix(" Signaling Trainer to stop.")
            print(f"stopped early      after epoch {callback.stopped_epoch + 1}, step {trainer.global_step}: {reason}")
    if broken := not_finite(trainer):
        print(
            f"Training diverged: {', '.join(broken)} at the end. Try a smaller learning rate, or gradient clipping "
            "(--trainer.gradient_clip_val)."
        )


def not_finite(trainer: Trainer) -> list[str]:
    """Returns the metrics of a run that are NaN or infinite at its end, such as "val/loss is nan"."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]


def _no_step(trainer: Any) -> str:
    """Returns why no training step was taken."""
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if getattr(trainer, name) == 0:
            return f"trainer.{name} is 0"
    return "the run ended before its first step"
