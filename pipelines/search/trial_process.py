"""One trial as a process: started, watched through the metrics that its run writes, and ended with all its children."""

import contextlib
import math
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.tracking.curves import read_curves

_GRACE_SECONDS = 10.0  # between asking a trial to stop and killing it
_LOOK_SECONDS = 0.5  # between two looks at a trial's metrics


@dataclass(frozen=True)
class Job:
    """What to start.

    Attributes:
        number: the trial's.
        command: its words.
        root: where it is started.
        environment: what it gets on top of this process's environment; WANDB_RUN_ID names its run.
        log: the file for what it prints.
        metric: whose values are followed.
        time_limit: seconds; None for no limit.
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
        state: "stopped" if this launcher stopped it.
        reason: what went wrong, in a few words.
        seconds: from start to end.
        exit_code: as the system gave it; negative is a signal.
    """

    state: Literal["finished", "failed", "stopped"]
    reason: str | None
    seconds: float
    exit_code: int


class TrialProcess:
    """Starts a trial in a process group of its own.

    Args:
        job: what to start.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.metric: list[float] = []
        self.logged: list[str] = []  # names of all metrics
        self._started = self._looked = time.monotonic()
        self._stopping: tuple[str, float] | None = None  # why, and when it is killed
        self._not_finite: str | None = None
        self._size = -1
        # Within a SLURM job Lightning would take the job's tasks for the trial's own processes, and wait for them.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        with job.log.open("ab") as log:
            self._process = subprocess.Popen(
                job.command,
                cwd=job.root,
                env={**inherited, **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> Outcome | None:
        """Follows the trial; its outcome once it has ended.

        A trial whose loss is not a number, or that runs past its time, is stopped here.
        """
        now = time.monotonic()
        ended = self._process.poll() is not None
        if ended or now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._read_metrics()
        seconds = now - self._started
        if ended:
            self._kill()  # children that outlived it
            return self._outcome(seconds)
        if self._not_finite is not None:
            self.stop(self._not_finite)
        elif self.job.time_limit is not None and seconds > self.job.time_limit:
            self.stop(f"ran longer than {self.job.time_limit:g} s")
        if self._stopping is not None and now > self._stopping[1]:
            self._kill()
        return None

    def stop(self, reason: str | None = None, grace: float = _GRACE_SECONDS) -> None:
        """Asks the trial to end, and kills it if it hasn't after `grace` seconds; a reason makes it a failure."""
        if self._stopping is None:
            self._stopping = (reason or "", time.monotonic() + grace)
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()  # its children are its own to end, or ours when it is gone

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _outcome(self, seconds: float) -> Outcome:
        code = self._process.returncode
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
            return Outcome("failed", f"exit status {code}: {_last_words(self.job.log)}", seconds, code)
        if not self.metric:
            return Outcome("failed", f"logged no {self.job.metric}", seconds, code)
        return Outcome("finished", None, seconds, code)

    def _read_metrics(self) -> None:
        run = self.job.environment["WANDB_RUN_ID"]
        file = next(self.job.root.glob(f"logs/*/{run}/metrics.csv"), None)
        if file is None or file.stat().st_size == self._size:
            return
        self._size = file.stat().st_size
        with contextlib.suppress(ValueError):  # not even a header yet
            curves = read_curves(file)
            self.logged = list(curves)
            for name in ("train/loss", self.job.metric):
                points = curves[name].points if name in curves else ()
                wrong = next((point for point in points if not math.isfinite(point.value)), None)
                if wrong and self._not_finite is None:
                    self._not_finite = f"{name} became {wrong.value} at step {wrong.step}"
            metric = curves[self.job.metric].points if self.job.metric in curves else ()
            self.metric = [point.value for point in metric if math.isfinite(point.value)]


def _last_words(log: Path) -> str:
    """The line in which a program that failed says why: its own sentence, or the last of a traceback."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (said or lines or ["it said nothing"])[-1][:300]
