"""Tells W&B that the machine of a run is taken away: a sweep then queues the run again."""

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger

_WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)  # of batch systems: the job will end
# SLURM, LSF, PBS, Grid Engine and Kubernetes end a job that they preempt by SIGTERM.
_JOB_VARIABLES = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID", "KUBERNETES_SERVICE_HOST")
# W&B's agent and `pipelines.sweep` stop a trial by SIGTERM because it is hopeless.
_SWEEP_VARIABLES = ("WANDB_SWEEP_ID", "LIGHTNING_231N_LAUNCHER")


def is_preemption(signum: int) -> bool:
    """Returns whether a signal says that the cluster takes the machine away: its warnings, or SIGTERM in a job.

    A trial of a sweep is preempted only by the warnings, since sweeps stop trials by SIGTERM.
    """
    if signum in _WARNINGS:
        return True
    of_sweep = any(name in os.environ for name in _SWEEP_VARIABLES)
    return signum == signal.SIGTERM and not of_sweep and any(name in os.environ for name in _JOB_VARIABLES)


def mark_preempting(loggers: Iterable[Logger]) -> None:
    """Marks the W&B runs of loggers as preempted."""
    for logger in loggers:
        run: Any = logger._experiment if isinstance(logger, WandbLogger) else None
        if run is not None:
            with contextlib.suppress(Exception):  # W&B's service may have ended with the job
                run.mark_preempting()
