"""Runs one trial as a process: starts it, follows the metrics that its run writes, and ends it with its children."""

import contextlib
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Literal, Protocol

from pipelines.tracking.curves import read_curves
from pipelines.trials.warm_server import WarmServer, train_command

_GRACE_SECONDS = 10.0  # between asking a trial to stop and killing it
_ESCAPE_CODE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_READ_SECONDS = 0.5  # between two readings of a trial's metrics


@dataclass(frozen=True)
class Job:
    """The command of a trial, and how to run it.

    Attributes:
        number: Number of the trial.
        command: Words of the command.
        root: Folder in which it is started.
        environment: Environment variables in addition to this process's; WANDB_RUN_ID is the id of its run.
        log: File for its output.
        metric: Name of the metric to follow.
        time_limit: Seconds after which it is stopped; None for no limit.
    """

    number: int
    command: list[str]
    root: Path
    environment: dict[str, str]
    log: Path
    metric: str
    time_limit: float | None


@dataclass(frozen=True)
class Outcome:
    """How a trial's process ended.

    Attributes:
        state: "stopped" if the launcher stopped it early; "lost" if it has to start again, as a process of its own.
        reason: Why it failed; None if it did not.
        seconds: Duration.
        exit_code: Exit status; a negative one is the signal that ended it.
    """

    state: Literal["finished", "failed", "stopped", "lost"]
    reason: str | None
    seconds: float
    exit_code: int


class Process(Protocol):
    """What a trial runs as: a process of its own, or its part of a pack."""

    pid: int
    returncode: int | None
    lost: str | None  # why it has to be started again, although it has an exit status

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill_group(self) -> None: ...


class TrialProcess:
    """A running trial.

    Args:
        job: The command.
        process: The process that runs it.
        clock: Time in seconds, by which the time limit is measured.
    """

    def __init__(self, job: Job, process: Process, clock: Callable[[], float] = time.monotonic) -> None:
        self.job = job
        self._clock = clock
        self.metric: list[float] = []
        self.logged: list[str] = []  # names of all metrics that the run logs
        self._stopping: tuple[str, float] | None = None  # the reason, and the time at which it is killed
        self._not_finite: str | None = None
        self._size = -1
        self._process = process
        self._started = self._last_read = clock()

    def poll(self) -> Outcome | None:
        """Reads the metrics and returns the outcome, None while the trial runs.

        Stops a trial whose loss or metric is not finite, or that exceeds its time limit.
        """
        now = self._clock()
        ended = self._process.poll() is not None
        if ended or now - self._last_read > _READ_SECONDS:
            self._last_read = now
            self._read_metrics()
        seconds = now - self._started
        if ended:
            self._process.kill_group()  # child processes that have not ended
            return self._outcome(seconds)
        if self._not_finite is not None:
            self.stop(self._not_finite)
        elif self.job.time_limit is not None and seconds > self.job.time_limit:
            self.stop(f"ran longer than {self.job.time_limit:g} s")
        if self._stopping is not None and now > self._stopping[1]:
            self._process.kill_group()
        return None

    def stop(self, reason: str | None = None, grace: float = _GRACE_SECONDS) -> None:
        """Terminates the trial, and kills it after `grace` seconds; with a reason it counts as failed."""
        if self._stopping is None:
            self._stopping = (reason or "", self._clock() + grace)
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()  # the trial ends its children; any that remain are killed with it

    def _outcome(self, seconds: float) -> Outcome:
        code = self._process.returncode
        assert code is not None
        if self._process.lost is not None and self._stopping is None:
            return Outcome("lost", self._process.lost, seconds, code)
        if self._not_finite is not None:
            return Outcome("failed", self._not_finite, seconds, code)
        if self._stopping is not None:
            reason = self._stopping[0]
            return Outcome("failed" if reason else "stopped", reason or None, seconds, code)
        if code < 0:
            name = signal.Signals(-code).name
            memory = ": out of memory?" if name == "SIGKILL" else ""
            return Outcome("failed", f"killed by {name}{memory}", seconds, code)
        if code > 0:
            return Outcome("failed", f"exit status {code}: {_error_message(self.job.log)}", seconds, code)
        if not self.metric:
            return Outcome("failed", f"logged no {self.job.metric}", seconds, code)
        return Outcome("finished", None, seconds, code)

    def _read_metrics(self) -> None:
        run = self.job.environment["WANDB_RUN_ID"]
        file = next(self.job.root.glob(f"logs/*/{escape(run)}/metrics.csv"), None)
        if file is None or file.stat().st_size == self._size:
            return
        self._size = file.stat().st_size
        with contextlib.suppress(ValueError):  # the file has no header yet
            curves = read_curves(file)
            self.logged = list(curves)
            for name in ("train/loss", self.job.metric):
                points = curves[name].points if name in curves else ()
                first = next((point for point in points if not math.isfinite(point.value)), None)
                if first and self._not_finite is None:
                    self._not_finite = f"{name} became {first.value} at step {first.step}"
            metric = curves[self.job.metric].points if self.job.metric in curves else ()
            self.metric = [point.value for point in metric if math.isfinite(point.value)]


class NewProcess(subprocess.Popen[bytes]):
    """A process started for a trial, in a process group of its own."""

    lost: str | None = None

    def kill_group(self) -> None:
        """Kills the process and those of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def trial_environment(job: Job) -> dict[str, str]:
    """Returns all environment variables of a trial."""
    # Inside a SLURM job Lightning would take the job's tasks for processes of the trial, and wait for them.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {**inherited, **job.environment}


def start_trial(job: Job, server: WarmServer | None = None) -> Process:
    """Starts the process of a trial.

    Args:
        job: The command to start.
        server: Process from which a run of `pipelines.train` is forked; None to start a new one.
    """
    arguments = train_command(job.command)
    if server is not None and arguments is not None:
        with contextlib.suppress(ConnectionError):  # the server has ended: a new process then
            return server.start(arguments, job.root, trial_environment(job), job.log)
    with job.log.open("ab") as log:
        return NewProcess(
            job.command,
            cwd=job.root,
            env=trial_environment(job),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _error_message(log: Path) -> str:
    """The error message in the output of a failed program: its last "error: …" line, else its last line."""
    text = _ESCAPE_CODE.sub("", log.read_text(errors="replace"))  # a traceback may be colored
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["no output"])[-1][:300]
