"""Signals end a run between two steps, with its last checkpoint written and its other processes ended.

`wandb agent`, SLURM's `scancel` and Kubernetes send SIGTERM, and SIGKILL 30 seconds later; Ctrl-C, a closed
terminal and the warnings of batch systems (SIGUSR1, SIGUSR2, SIGXCPU) count alike.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.console.signals import stop_signals
from pipelines.console.terminal import leave_closed_terminal

_VALIDATION_SECONDS = 3.0  # a validation that ends within this time is finished: the epoch's checkpoint follows it
_GRACE_SECONDS = 20.0  # for a clean end
_SAME_SECONDS = 0.5  # a terminal and a launcher may both forward the same Ctrl-C


class Stopped(SystemExit):
    """Ends the run because of a signal, with the exit status that shells use for it.

    Args:
        signum: Signal number.

    Attributes:
        signum: Signal number.
        reason: Its name; "Ctrl-C" for SIGINT.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.reason = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name

    def __str__(self) -> str:
        return self.reason


class StopSignals(Callback):
    """Raises `Stopped` on a signal: in training after a step that all ranks agree on, elsewhere immediately.

    Lightning's own SIGTERM handler communicates with the other ranks from within the handler, in the middle of other
    collectives, and leaves them behind if the signal comes during validation.

    Args:
        give_up: Ends the run within a few seconds if it is stuck or a second Ctrl-C comes; its second argument says
            whether it has those seconds.

    Attributes:
        signum: Signal received, or None.
        agreed: Whether all ranks know of the signal and stop before the next step.
        checkpoint: File for the training state at the end; None writes none.
    """

    def __init__(self, give_up: Callable[[Stopped, bool], None]) -> None:
        self.signum: int | None = None
        self.checkpoint: Path | None = None
        self._give_up = give_up
        self._since = 0.0
        self.agreed = False
        self._training = False
        self._over = threading.Event()
        self._previous: dict[int, Any] = {}
        self._group: Any = None

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            return self  # Python delivers signals to the main thread only
        atexit.register(self._die)  # early: handlers registered first run last
        self._previous = {number: signal.getsignal(number) for number in stop_signals()}
        self._listen()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        _active.append(self)
        threading.Thread(target=self._watch, name="stop-signals", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self not in _active:
            return
        _active.remove(self)
        signal.set_wakeup_fd(self._wakeup)
        self._over.set()
        os.close(self._write_end)  # ends the thread
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if not isinstance(error, Stopped) or error.code == 0:
            atexit.unregister(self._die)

    def _listen(self) -> None:
        for number in self._previous:
            signal.signal(number, self._receive)

    def _receive(self, signum: int, frame: Any) -> None:
        now = time.monotonic()
        if signum == signal.SIGHUP:
            leave_closed_terminal()
        if self.signum is None:
            self.signum, self._since = signum, now
            if not self._training:
                raise Stopped(signum)
        elif signum == self.signum and signum in (signal.SIGINT, signal.SIGQUIT) and now - self._since > _SAME_SECONDS:
            self._end_now(patient=False)

    def request(self, signum: int) -> None:
        """Stops a run in training after its next step, as a signal would; for a run that gets no signals itself."""
        if self.signum is None:
            self.signum, self._since = signum, time.monotonic()

    def _watch(self) -> None:
        """Ends a run that is stuck, from a thread: a main thread that waits inside a library runs no Python handler."""
        while (received := os.read(self._read_end, 1)) and received[0] not in self._previous:
            pass
        if received and not self._over.wait(_GRACE_SECONDS):
            self.signum = received[0]
            self._end_now(patient=True)
        os.close(self._read_end)

    def _end_now(self, patient: bool) -> None:
        assert self.signum is not None
        self._give_up(Stopped(self.signum), patient)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + self.signum)

    def _die(self) -> None:
        """Ends the process by the signal itself: W&B's agent gives up after three exit statuses other than 0."""
        assert self.signum is not None
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # a closed pipe
                stream.flush()
        signal.signal(self.signum, signal.SIG_DFL)
        os.kill(os.getpid(), self.signum)  # process 1 of a container ignores it and exits with the status

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._previous:
            self._listen()  # again: Lightning has installed its own handler
        if trainer.world_size > 1:
            self._group = dist.new_group(backend="gloo")  # on the CPU, so that no step synchronizes with the GPU
            # Lightning broadcasts before each step whether rank 0 got a SIGTERM; `_signal_received` replaces that.
            setattr(trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor", lambda: None)  # noqa: B010
        self._training = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.agreed:  # one step after the decision, when the last step has been logged
            assert self.signum is not None
            raise Stopped(self.signum)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = trainer.is_last_batch
        if not last and (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # gradients are still accumulating
        if self._signal_received(trainer) and not self.agreed:
            self.agreed = True
            if not last and self.checkpoint is not None:  # the end of the epoch writes one anyway
                trainer.save_checkpoint(self.checkpoint)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # With several ranks, none may leave the others in the middle of a validation.
        late = time.monotonic() - self._since > _VALIDATION_SECONDS
        if self._training and self.signum is not None and trainer.world_size == 1 and late:
            raise Stopped(self.signum)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._training = False

    def _signal_received(self, trainer: Trainer) -> bool:
        if self._group is not None:
            signums = torch.tensor(self.signum or 0)
            dist.all_reduce(signums, dist.ReduceOp.MAX, group=self._group)
            if not signums:
                return False  # on all ranks; a signal that came meanwhile counts after the next step
            self.signum = int(signums)
        return self.signum is not None


def take_over_processes(trainer: Trainer | None) -> list["subprocess.Popen[bytes]"]:
    """Returns the processes that Lightning started for the other devices and ends its monitoring of them.

    Lightning would kill this process if one of them ended with an error, which can happen once this one stops.
    """
    launcher = getattr(getattr(trainer, "strategy", None), "launcher", None)
    watched: list[subprocess.Popen[bytes]] = getattr(launcher, "procs", [])
    processes = list(watched)
    watched.clear()
    return processes


def end_processes(processes: list["subprocess.Popen[bytes]"], seconds: float) -> None:
    """Waits for the processes to end, and kills those that have not ended after `seconds`."""
    deadline = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def started_by_lightning(trainer: Trainer | None) -> bool:
    """Returns whether Lightning, not torchrun or SLURM, started this process for a device other than the first."""
    environment = getattr(getattr(trainer, "strategy", None), "cluster_environment", None)
    return isinstance(environment, LightningEnvironment) and os.environ.get("LOCAL_RANK", "0") != "0"


_active: list[StopSignals] = []


def _in_forked_child() -> None:
    """Makes data loader workers ignore Ctrl-C, and what else reaches all processes of a terminal or a job.

    Their parent ends them.
    """
    if _active:
        signal.set_wakeup_fd(-1)
        for number in _active[-1]._previous:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        atexit.unregister(_active[-1]._die)


os.register_at_fork(after_in_child=_in_forked_child)
