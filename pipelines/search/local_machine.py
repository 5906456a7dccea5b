"""Trials as processes on this machine, so many at a time, each with its share of the cores or GPUs."""

import os
import time
from dataclasses import replace
from pathlib import Path

from common.errors import UserError
from pipelines.search.trial_process import Job, Outcome, TrialProcess
from pipelines.search.watchdog import MARK, Watchdog, kill_marked

_POLL_SECONDS = 0.02


def visible_gpus() -> list[str]:
    """The GPUs that trials may use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    if not Path("/dev/nvidia0").exists() and not Path("/dev/kfd").exists():
        return []  # importing torch takes two seconds
    import torch

    return [str(place) for place in range(torch.cuda.device_count())]


def shares(parallel: int | None, gpus_per_trial: int) -> list[dict[str, str]]:
    """The environment of each trial that runs at the same time: which GPUs and how many threads it has.

    Args:
        parallel: how many at a time; None for one per `gpus_per_trial` GPUs, or one a core on a machine without.
        gpus_per_trial: 1 or more; it counts on a machine with GPUs.

    Raises:
        ValueError: fewer GPUs than a trial asks for.
    """
    gpus = visible_gpus()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if gpus and gpus_per_trial > len(gpus):
        raise UserError(f"--gpus-per-trial is {gpus_per_trial}, but this machine shows {len(gpus)} GPUs; give fewer.")
    groups = len(gpus) // gpus_per_trial
    count = parallel or groups or cores
    environments = []
    for place in range(count):
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))}
        if groups:
            first = (place % groups) * gpus_per_trial  # more trials than groups share them
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + gpus_per_trial])
        environments.append(environment)
    return environments


class LocalMachine:
    """Runs trials here, and leaves no process behind even if it is killed.

    Args:
        environments: one for each trial at a time.
        mark: names the launcher.
        lock: descriptor of the launcher's lock, held until its last trial is dead.
    """

    def __init__(self, environments: list[dict[str, str]], mark: str, lock: int) -> None:
        self._free = list(environments)
        self._running: list[tuple[TrialProcess, dict[str, str]]] = []
        self._mark = mark
        self._watchdog = Watchdog(mark, (lock,))

    @property
    def has_room(self) -> bool:
        return bool(self._free)

    def start(self, job: Job) -> None:
        """Starts a trial in a free place."""
        environment = self._free.pop(0)
        marked = {**job.environment, **environment, MARK: f"{self._mark}/{job.number}"}
        self._running.append((TrialProcess(replace(job, environment=marked)), environment))

    def poll(self) -> list[tuple[TrialProcess, Outcome | None]]:
        """Where each running trial stands; one with an outcome is gone afterwards."""
        time.sleep(_POLL_SECONDS)
        standing = [(process, process.poll(), environment) for process, environment in self._running]
        for process, outcome, environment in standing:
            if outcome is not None:
                self._running.remove((process, environment))
                self._free.append(environment)
                if outcome.state != "finished":  # what it started may hold a GPU
                    kill_marked(f"{self._mark}/{process.job.number}")
        return [(process, outcome) for process, outcome, _ in standing]

    def close(self) -> None:
        """Kills what still runs, and waits until it is dead."""
        self._watchdog.close()
