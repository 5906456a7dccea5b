"""The metrics that checkpoints, early stopping and schedules monitor, checked before training."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from common.errors import UserError
from pipelines.checkpoints.best_checkpoint import BestCheckpoint
from pipelines.tracking.metric_goals import known_mode

_KNOWN_PACKAGES = ("modules", "callbacks", "pipelines", "lightning")


def check_monitors(model: LightningModule, trainer: Any, schedule: Any, class_names: Sequence[str] = ()) -> None:
    """Checks that the run logs each monitored metric, and that each mode is that of its metric.

    Only the project's classes declare the metrics that they log; with a class of the user's, any name is accepted.

    Args:
        model: Model of the run.
        trainer: Its trainer, with all callbacks.
        schedule: Settings of its schedule; None for none.
        class_names: Classes of the data, whose accuracies may be monitored.

    Raises:
        ValueError: If a metric will not be logged, or its mode is the opposite of what the metric needs.
    """
    classes = [type(part).__module__.partition(".")[0] for part in (model, *trainer.callbacks)]
    known = {name for part in (model, *trainer.callbacks) for name in getattr(part, "metric_names", ())}
    by_class = {f"{metric}/{name}" for metric in getattr(model, "metrics_by_class", ()) for name in class_names}
    complete = set(classes) <= set(_KNOWN_PACKAGES)
    for setting, monitor, mode in _monitors(trainer, schedule):
        if complete and monitor not in known | by_class:
            near = get_close_matches(monitor, [*known, *by_class], 1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(sorted(known))}."
            raise UserError(f"{setting} monitors {monitor!r}, which {type(model).__name__} does not log here; {hint}")
        right = known_mode(monitor)
        if right is not None and mode is not None and mode != right:
            better = "smaller" if right == "min" else "larger"
            raise UserError(
                f"{setting} has the mode {mode}, but {monitor} is better the {better} it is; set its mode to {right}."
            )


def _monitors(trainer: Any, schedule: Any) -> Iterator[tuple[str, str, str | None]]:
    """Yields what monitors a metric, its name and its mode for each; None for a mode that is checked elsewhere."""
    for callback in trainer.callbacks:
        if isinstance(callback, BestCheckpoint):
            if callback.monitor is not None and callback.save_top_k != 0:
                yield "checkpoint", callback.monitor, None
        elif isinstance(callback, ModelCheckpoint | EarlyStopping) and callback.monitor is not None:
            yield type(callback).__name__, callback.monitor, callback.mode
    settings = schedule.get("init_args", {}) if schedule else {}
    if settings.get("monitor") is not None:
        yield "lr_scheduler", settings["monitor"], settings.get("mode")
