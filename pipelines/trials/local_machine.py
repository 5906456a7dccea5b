"""Runs trials as processes of this machine, several at a time, each with its share of the cores or GPUs."""

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import UserError
from common.machine.cores import usable_cores
from pipelines.trials.pack_process import PackedTrial, PackJob, PackProcess
from pipelines.trials.trial_process import Job, Outcome, Process, TrialProcess, start_trial, trial_environment
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
    cores = usable_cores()
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


def warm_server(root: Path, environment: dict[str, str]) -> WarmServer:
    """Starts the process that trials are forked from.

    Args:
        root: Folder in which trials are started.
        environment: Environment variables of a trial, as `trial_environments` returns them.
    """
    return WarmServer(root, {**os.environ, **environment})


@dataclass
class _Share:
    """A share of the machine, and how many trials run in it."""

    environment: dict[str, str]
    trials: int


class LocalMachine:
    """Runs trials on this machine, and leaves no process behind even if the launcher is killed.

    Args:
        environments: Environment variables of each trial that runs at the same time.
        mark: Name of the launcher, which marks the processes of its trials.
        lock: File descriptor of the launcher's lock, held until its last trial has ended.
        clock: Time in seconds, by which time limits are measured.
        server: Process that trials are forked from, if it was started already; it is closed with the machine.
    """

    def __init__(
        self,
        environments: list[dict[str, str]],
        mark: str,
        lock: int,
        clock: Callable[[], float] = time.monotonic,
        server: WarmServer | None = None,
    ) -> None:
        self._clock = clock
        self._free = list(environments)
        self._running: list[tuple[TrialProcess, _Share]] = []
        self._packs: list[PackProcess] = []
        self._mark = mark
        self._server = server
        self._lock = lock
        self._watchdogs = [Watchdog([mark, *([server.mark] if server else [])], (lock,))]

    @property
    def has_room(self) -> bool:
        return bool(self._free)

    def start(self, *jobs: Job) -> None:
        """Starts a trial with the next free environment, or several as a pack."""
        share = _Share(self._free.pop(0), len(jobs))
        marked = [
            replace(job, environment={**job.environment, **share.environment, MARK: f"{self._mark}/{job.number}"})
            for job in jobs
        ]
        if self._server is None and train_command(jobs[0].command) is not None:
            self._server = warm_server(jobs[0].root, share.environment)
            self._watchdogs.append(Watchdog([self._server.mark], (self._lock,)))
        processes: Sequence[Process] = (
            self._start_pack(marked) if len(jobs) > 1 else [start_trial(marked[0], self._server)]
        )
        for job, process in zip(marked, processes, strict=True):
            self._running.append((TrialProcess(job, process, self._clock), share))

    def _start_pack(self, jobs: Sequence[Job]) -> list[PackedTrial]:
        """Starts a process that trains several trials."""
        members = [
            PackJob(job.number, train_command(job.command) or [], trial_environment(job), job.log) for job in jobs
        ]
        log = jobs[0].log.with_name(f"pack-{jobs[0].number:04d}.log")
        environment = {**members[0].environment, MARK: f"{self._mark}/pack-{jobs[0].number}"}
        pack = PackProcess(members, jobs[0].root, environment, log, self._server)
        self._packs.append(pack)
        return pack.trials

    def notes(self) -> list[str]:
        """Returns what packs have told the user since the last call."""
        told = [note for pack in self._packs for note in pack.notes]
        for pack in self._packs:
            pack.notes.clear()
        return told

    def poll(self) -> list[tuple[TrialProcess, Outcome | None]]:
        """Returns each running trial with its outcome, None if it still runs; those with one are not returned again."""
        time.sleep(_POLL_SECONDS)
        polled = [(process, process.poll(), share) for process, share in self._running]
        for process, outcome, share in polled:
            if outcome is not None:
                self._running.remove((process, share))
                share.trials -= 1
                if not share.trials:
                    self._free.append(share.environment)
                if outcome.state != "finished":  # its child processes may hold a GPU
                    kill_marked(f"{self._mark}/{process.job.number}")
        return [(process, outcome) for process, outcome, _ in polled]

    def close(self) -> None:
        """Kills all running trials and waits until they have ended."""
        for watchdog in self._watchdogs:
            watchdog.close()
        if self._server is not None:
            self._server.close()
