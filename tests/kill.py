"""A callback that kills its own process, for tests of what survives."""

import os
import signal
import time
from typing import Any

import psutil
from lightning.pytorch import Callback, LightningModule, Trainer


class Pause(Callback):
    """Waits after `step` optimizer steps, so that W&B's client sends what it has.

    Args:
        step: Number of steps.
        seconds: Time to wait.
    """

    def __init__(self, step: int, seconds: float = 0.0) -> None:
        self.step, self.seconds = step, seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            time.sleep(self.seconds)
            self.end()

    def end(self) -> None:
        """Does what follows the wait."""


class KillAtStep(Pause):
    """Ends the process with SIGKILL after `step` optimizer steps, before anything else happens after that step."""

    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class KillWandbAtStep(Pause):
    """Ends W&B's own process after `step` optimizer steps, as a signal to all processes of a SLURM job does."""

    def end(self) -> None:
        services = [child for child in psutil.Process().children(recursive=True) if "wandb" in child.name()]
        assert services, "W&B has no process of its own here"
        for service in services:
            service.kill()
        psutil.wait_procs(services)
