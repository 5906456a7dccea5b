"""A callback that kills its own process, for tests of what survives."""

import os
import signal
import time
from typing import Any

import psutil
from lightning.pytorch import Callback, LightningModule, Trainer


class KillAtStep(Callback):
    """Ends the process with SIGKILL after `step` optimizer steps, before anything else happens after that step.

    Args:
        step: Number of steps.
        seconds: Time before the kill, in which W&B's client sends what it has.
    """

    def __init__(self, step: int, seconds: float = 0.0) -> None:
        self.step, self.seconds = step, seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            time.sleep(self.seconds)
            os.kill(os.getpid(), signal.SIGKILL)


class Pause(Callback):
    """Waits after `step` optimizer steps, so that W&B's client sends what it has."""

    def __init__(self, step: int, seconds: float) -> None:
        self.step, self.seconds = step, seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            time.sleep(self.seconds)


class KillWandbAtStep(Callback):
    """Ends W&B's own process after `step` optimizer steps, as a signal to all processes of a SLURM job does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            services = [child for child in psutil.Process().children(recursive=True) if "wandb" in child.name()]
            assert services, "W&B has no process of its own here"
            for service in services:
                service.kill()
            psutil.wait_procs(services)
