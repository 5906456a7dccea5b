"""Folder, status and processes of a run, from its start and first step to its end: finished, failed or stopped."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from common.atomic_files import remove_abandoned
from pipelines.console.errors import sentence
from pipelines.loggers.wandb_alerts import alert, result
from pipelines.run.run_folder import RunFolder
from pipelines.run.run_messages import print_stopped
from pipelines.run.status import StatusFile
from pipelines.run.stop_signals import Stopped, StopSignals, end_processes, started_by_lightning, take_over_processes
from pipelines.tracking.preemption import is_preemption, mark_preempting
from pipelines.tracking.wandb_run import finish_wandb
from pipelines.trainer.outcome import not_finite

_PATIENCE_SECONDS = 3.0  # for the other processes of an ended run, and for W&B if ending takes too long


class RunLifetime:
    """Starts a run in its folder and ends it, however it ends.

    Attributes:
        signals: Callback that stops training after Ctrl-C, SIGTERM and other stop signals.
        trainer: Trainer of the run; None until it is created.
        alerts: Whether W&B sends an alert when a `fit` has finished or failed.
    """

    def __init__(self) -> None:
        self.signals = StopSignals(self._end_now)
        self.trainer: Trainer | None = None
        self.alerts = False
        self._folder: RunFolder | None = None  # of a `fit`
        self._created_folder = False
        self._status: StatusFile | None = None

    @contextmanager
    def ended_properly(self) -> Iterator[None]:
        """Handles signals while the run lasts, and ends it after an error, a signal or its regular end."""
        with self.signals:
            try:
                yield
            except BaseException as error:
                if self.signals.signum is not None and isinstance(error, Exception):
                    error = Stopped(self.signals.signum)  # the signal also reached a process that this one needs
                self._end(error)
                raise error
        if self._status is not None:
            self._status.end("finished")
            broken = not_finite(self.trainer) if self.trainer is not None else []
            self._alert("diverged" if broken else "finished", ", ".join(broken) or result(self.trainer), bool(broken))
        finish_wandb(self._loggers, exit_code=0)

    def start(self, folder: RunFolder) -> None:
        """Creates the folder of a `fit` and its status on rank 0, so that a folder that can't be written fails here.

        From now on this process alone writes checkpoints and configuration of the run, and what killed writers left is
        removed.

        Raises:
            ValueError: If the run in the folder is still running.
            OSError: If the folder can't be written.
        """
        self._folder = folder
        if getattr(rank_zero_only, "rank", 0) == 0:
            self._created_folder = not folder.path.exists()
            folder.path.mkdir(parents=True, exist_ok=True)
            try:
                self._status = StatusFile(folder.path)
            except OSError:
                if self._created_folder:
                    shutil.rmtree(folder.path, ignore_errors=True)
                raise
            for written in (folder.path, folder.checkpoints, *(folder.path / "pictures").rglob("*/")):
                remove_abandoned(written)

    def begin(self) -> None:
        """Records after the first step that the run goes on; until then a finished run stays finished."""
        if self._status is not None:
            self._status.begin()

    @property
    def _loggers(self) -> list[Logger]:
        return self.trainer.loggers if self.trainer is not None else []

    @property
    def _begun(self) -> bool:
        return self.trainer is not None and self.trainer.global_step > 0

    def _end(self, error: BaseException) -> None:
        """Ends a run after an error or a signal: messages, W&B, status, folder and other processes."""
        processes = take_over_processes(self.trainer)
        if isinstance(error, Stopped):
            step = self.trainer.global_step if self.trainer is not None and self._begun else None
            print_stopped(error, self._folder, step)
            if not self.signals.agreed:
                end_processes(processes, 0)  # they do not know of the signal and would fail when this process is gone
            if started_by_lightning(self.trainer):
                error.code = 0  # Lightning kills rank 0 as soon as another rank ends with an error status
            if is_preemption(error.signum):
                mark_preempting(self._loggers)
        if isinstance(error, Exception):
            self._alert("failed", f"{type(error).__name__}: {sentence(error)}", failed=True)
        finish_wandb(self._loggers, _wandb_exit_code(error))
        if self._status is not None:
            stopped = isinstance(error, KeyboardInterrupt | Stopped) or (
                isinstance(error, SystemExit) and not error.code
            )
            reason = error.reason if isinstance(error, Stopped) else f"{type(error).__name__}: {sentence(error)}"
            if self._folder is not None and self._created_folder and not self._begun:
                # Nothing in it to keep; before its lock is released, or another run might have started in it.
                shutil.rmtree(self._folder.path, ignore_errors=True)
            self._status.end("stopped" if stopped else "failed", reason)
        end_processes(processes, _PATIENCE_SECONDS)

    def _alert(self, state: str, text: str, failed: bool = False) -> None:
        if self.alerts and self._folder is not None:
            alert(self._loggers, f"{self._folder.topic} {state}: {self._folder.run_id}", text, failed)

    def _end_now(self, stopped: Stopped, patient: bool) -> None:
        """Ends a run within a few seconds, or immediately, before its process exits."""
        processes = take_over_processes(self.trainer)
        if patient:
            if is_preemption(stopped.signum):
                mark_preempting(self._loggers)
            finish = threading.Thread(target=finish_wandb, args=(self._loggers, _wandb_exit_code(stopped)), daemon=True)
            finish.start()
            finish.join(_PATIENCE_SECONDS)
        if self._status is not None:
            self._status.end("stopped", stopped.reason)
        end_processes(processes, 0)


class FirstStep(Callback):
    """Calls a function after the first optimizer step, or the first batch of a model without optimizers.

    Until then, nothing that the previous attempt at the run left is replaced: many settings fail only there, such as an
    optimizer with another one's restored state, or a batch that needs too much memory.

    Args:
        begin: The function, called with the trainer on all ranks.
    """

    def __init__(self, begin: Callable[[Trainer], None]) -> None:
        self._begin: Callable[[Trainer], None] | None = begin
        self._start = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._begin is not None and (trainer.global_step > self._start or not trainer.optimizers):
            begin, self._begin = self._begin, None
            begin(trainer)


def _wandb_exit_code(error: BaseException) -> int:
    """Returns the exit code for W&B, which uses 255 for interrupted runs."""
    if isinstance(error, KeyboardInterrupt | Stopped):
        return 255
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        return error.code or 0
    return 1
