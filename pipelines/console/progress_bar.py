"""Progress bar that redraws at most five times a second."""

from time import monotonic

from lightning.pytorch.callbacks import TQDMProgressBar

_SECONDS_BETWEEN_UPDATES = 0.2


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar, redrawn by the clock: a redraw costs as much as a whole step of a linear model."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0.0

    def _should_update(self, current: int, total: int) -> bool:
        now = monotonic()
        if not self.is_enabled or (now - self._drawn < _SECONDS_BETWEEN_UPDATES and current != total):
            return False
        self._drawn = now
        return True
