"""Signals that ask a command to stop: Ctrl-C, those of batch systems, and the end of the terminal."""

import os
import signal
from typing import Any

from pipelines.console.terminal import leave_closed_terminal

# SIGHUP: the terminal was closed or the connection dropped. SIGUSR1, SIGUSR2, SIGXCPU: batch systems announce that the
# job is suspended, will be killed, or has used up its time. SIGQUIT: Ctrl-\.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")


def stop_signals() -> list[signal.Signals]:
    """Returns the signals that stop this process; those that its parent ignores, as `nohup` does SIGHUP, do not.

    In a job of SLURM, SIGUSR1 is left to Lightning, which requeues the job.
    """
    signals = [signal.Signals[name] for name in _SIGNALS if not (name == "SIGUSR1" and "SLURM_JOB_ID" in os.environ)]
    return [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]


def interrupt_on_signals() -> None:
    """Makes every stop signal raise KeyboardInterrupt in the main thread, as Ctrl-C does."""
    for number in stop_signals():
        signal.signal(number, _interrupt)


def _interrupt(signum: int, frame: Any) -> None:
    if signum == signal.SIGHUP:
        leave_closed_terminal()
    raise KeyboardInterrupt
