"""Draws the accuracies of a GAN's discriminator on real and on generated samples over the run, on their way to 50 %.

If the generator's samples had the distribution of the data, no discriminator could do better than chance. An accuracy
that stays near 100 % means that the generator has lost.

Source: I. Goodfellow et al., arXiv 1406.2661, proposition 1: for q = p the best discriminator is ½ everywhere.
"""

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.pictures import figure_to_array, show
from common.errors import UserError

_NAMES = ("train/accuracy_real", "train/accuracy_fake")


class DiscriminatorAccuracy(Callback):
    """Draws `train/accuracy_real` and `train/accuracy_fake` over the steps after each epoch.

    Checkpoints have the curves, so that a resumed run draws those before it too.

    Raises:
        ValueError: If the model does not log the two.
    """

    def __init__(self) -> None:
        self.curves: list[tuple[int, float, float]] = []  # step, accuracy on real and on generated samples

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not set(_NAMES) <= set(getattr(pl_module, "metric_names", ())):
            raise UserError(
                f"{type(pl_module).__name__} has no discriminator whose accuracy could be drawn; remove "
                "callbacks.DiscriminatorAccuracy from trainer.callbacks."
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._record(trainer)  # the module logs at the end of a step, after the callbacks

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._record(trainer)
        if len(self.curves) > 1:
            show(trainer, "discriminator_accuracy", accuracy_picture(self.curves), "accuracies of the discriminator")

    def _record(self, trainer: Trainer) -> None:
        step, every = trainer.global_step, getattr(trainer, "log_every_n_steps", 0)
        if not every or step % every or step <= (self.curves[-1][0] if self.curves else 0):
            return
        values = [trainer.callback_metrics.get(name) for name in _NAMES]
        if None not in values:
            self.curves.append((step, float(values[0]), float(values[1])))  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        """Returns the curves, for the checkpoint."""
        return {"curves": [list(point) for point in self.curves]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the curves of a checkpoint."""
        self.curves = [(int(step), float(real), float(fake)) for step, real, fake in state_dict["curves"]]


def accuracy_picture(curves: list[tuple[int, float, float]]) -> np.ndarray:
    """Draws points (step, accuracy on real, accuracy on generated samples); returns (height, width, 3) uint8."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(7, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    steps, real, fake = zip(*curves, strict=True)
    axes.axhline(0.5, color="black", linestyle=":", linewidth=1, label="chance")
    axes.plot(steps, real, color="tab:blue", linewidth=1, label="real samples")
    axes.plot(steps, fake, color="tab:green", linewidth=1, label="generated samples")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("step")
    axes.set_ylabel("accuracy of the discriminator")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure_to_array(figure)
