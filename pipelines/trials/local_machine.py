"""Runs trials as processes of this machine, several at a time, each with its share of the cores or GPUs."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from common.errors import UserError
from pipelines.trials.trial_process import Job, Outcome, TrialProcess
from pipelines.trials.warm_server import WarmServer, train_command
from pipelines.trials.watchdog import MARK, Watchdog, kill_marked

_POLL_SECONDS = 0.02
_UUIDS = ("GPU-", "MIG-")
_NUMBER = re.compile(r"\+?[0-9]+")


def visible_gpus() -> list[str]:
    """Returns the GPUs that trials may use, as named in CUDA_VISIBLE_DEVICES."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return named_gpus(os.environ["CUDA_VISIBLE_DEVICES"])
    if not Path("/dev/nvidia0").exists() and not Path("/dev/kfd").exists():
        return []  # importing torch takes two seconds
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def named_gpus(text: str) -> list[str]:
    """Returns the GPUs of a value of CUDA_VISIBLE_DEVICES, which CUDA reads up to the first name that is not valid.

    So "-1" and "NoDevFiles" are no GPU, and "0,-1,1" is one. If a GPU is named twice, there is none.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables
    """
    names = [name.strip() for name in text.split(",")]
    uuid = next((kind for kind in _UUIDS if names[0].startswith(kind)), None)
    gpus: list[str] = []
    for name in names:
        number = _NUMBER.match(name)
        valid = number is not None if uuid is None else name.startswith(uuid)
        if not valid:
            break
        gpu = str(int(number[0])) if number else name
        if gpu in gpus:
            return []
        gpus.append(gpu)
    return gpus


def trial_environments(parallel: int | None, gpus_per_trial: int) -> list[dict[str, str]]:
    """Divides this machine's GPUs and cores among the trials that run at the same time.

    Args:
        parallel: Number of trials at a time, ≥ 1; None for one per `gpus_per_trial` GPUs, or one per core without GPUs.
        gpus_per_trial: Number of GPUs of each trial, ≥ 1; ignored on a machine without GPUs.

    Returns:
        Environment variables of each of them: its GPUs and its number of threads.

    Raises:
        ValueError: If the machine has fewer GPUs than one trial needs.
    """
    gpus = visible_gpus()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if gpus and gpus_per_trial > len(gpus):
        raise UserError(f"--gpus-per-trial is {gpus_per_trial}, but this machine has {len(gpus)} GPUs; give fewer.")
    groups = len(gpus) // gpus_per_trial
    count = parallel or groups or cores
    environments = []
    for index in range(count):
        environment = {"OMP_NUM_THREADS": _threads(cores, count)}
        if groups:
            first = (index % groups) * gpus_per_trial  # trials beyond the number of groups share GPUs
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + gpus_per_trial])
        environments.append(environment)
    return environments


def _threads(cores: int, count: int) -> str:
    """Returns OMP_NUM_THREADS of each of `count` trials: their share of the cores, or fewer if that is set.

    One trial at a time keeps what is set: Ray sets the number of cores that it has reserved for the trial.
    """
    share = max(1, cores // count)
    given = os.environ.get("OMP_NUM_THREADS", "")
    is_number = given.isascii() and given.isdigit() and int(given) >= 1
    return given if is_number and (count == 1 or int(given) < share) else str(share)


class LocalMachine:
    """Runs trials on this machine, and leaves no process behind even if the launcher is killed.

    Args:
        environments: Environment variables of each trial that runs at the same time.
        mark: Name of the launcher, which marks the processes of its trials.
        lock: File descriptor of the launcher's lock, held until its last trial has ended.
        clock: Time in seconds, by which time limits are measured.
    """

    def __init__(
        self, environments: list[dict[str, str]], mark: str, lock: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._free = list(environments)
        self._running: list[tuple[TrialProcess, dict[str, str]]] = []
        self._mark = mark
        self._watchdog = Watchdog(mark, (lock,))
        self._server: WarmServer | None = None  # started with the first trial that it can fork

    @property
    def has_room(self) -> bool:
        return bool(self._free)

    def start(self, job: Job) -> None:
        """Starts a trial with the next free environment."""
        environment = self._free.pop(0)
        marked = {**job.environment, **environment, MARK: f"{self._mark}/{job.number}"}
        if self._server is None and train_command(job.command) is not None:
            self._server = WarmServer(job.root, {**os.environ, **marked, MARK: self._mark})
        self._running.append((TrialProcess(replace(job, environment=marked), self._server, self._clock), environment))

    def poll(self) -> list[tuple[TrialProcess, Outcome | None]]:
        """Returns each running trial with its outcome, None if it still runs; those with one are not returned again."""
        time.sleep(_POLL_SECONDS)
        polled = [(process, process.poll(), environment) for process, environment in self._running]
        for process, outcome, environment in polled:
            if outcome is not None:
                self._running.remove((process, environment))
                self._free.append(environment)
                if outcome.state != "finished":  # its child processes may hold a GPU
                    kill_marked(f"{self._mark}/{process.job.number}")
        return [(process, outcome) for process, outcome, _ in polled]

    def close(self) -> None:
        """Kills all running trials and waits until they have ended."""
        self._watchdog.close()
        if self._server is not None:
            self._server.close()
