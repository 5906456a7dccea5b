"""Progress bar that redraws at most five times a second, and shows the metrics that fit the terminal."""

import shutil
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

_SECONDS_BETWEEN_UPDATES = 0.2
_NARROW = 110  # columns below which the figures take the place of the bar
_BAR = 20  # columns of the percentage and a short bar
_FIGURES_ALONE = "{desc}{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar, redrawn by the clock: a redraw costs as much as a whole step of a linear model."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0.0
        if shutil.get_terminal_size().columns < _NARROW:
            self.BAR_FORMAT = _FIGURES_ALONE

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Returns the monitored metric first, then those of the validation, then others, as far as they fit."""
        metrics = dict(super().get_metrics(trainer, pl_module))
        metrics.pop("v_num", None)  # the end of the run's id
        count = len(str(trainer.num_training_batches))
        used = len(f"Epoch {trainer.current_epoch}: [00:00<00:00, 1000.00it/s, ]") + 2 * count + 2
        monitor = getattr(trainer.checkpoint_callback, "monitor", None)
        columns = shutil.get_terminal_size().columns
        return fitting(metrics, monitor, columns - used - (_BAR if columns >= _NARROW else 0))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the line of the bar, so that what is printed next begins a line of its own."""
        if self.is_enabled and self._drawn:
            print(file=sys.stdout, flush=True)

    def _should_update(self, current: int, total: int) -> bool:
        now = monotonic()
        if not self.is_enabled or (now - self._drawn < _SECONDS_BETWEEN_UPDATES and current != total):
            return False
        self._drawn = now
        return True


def fitting(metrics: Mapping[str, Any], monitor: str | None, columns: int) -> dict[str, Any]:
    """Returns the most important metrics, as many as a line of `columns` characters holds."""
    order = sorted(metrics, key=lambda name: (name != monitor, not name.startswith("val/")))
    kept: dict[str, Any] = {}
    for name in order:
        value = metrics[name]
        shown = f"{value:.3g}".ljust(5) if isinstance(value, float) else str(value)  # 0.5 is shown as 0.500
        columns -= len(f"{name}={shown}, ")
        if columns < -2:  # the last has no comma
            break
        kept[name] = value
    return kept
