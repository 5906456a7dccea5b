"""A sweep on disk: `logs/sweeps/<sweep id>/` with the sweep file as it was given and Optuna's journal of its trials.

Everything that must survive a kill is in the journal, and each change is one line of it. A trial that runs is in the
hands of a launcher, which holds a lock while it lives; a trial whose launcher is gone is up for adoption. So launchers
may come and go, several at a time and on several machines that share the folder, and no point is tried twice.
"""

import fcntl
import json
import math
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import optuna
from optuna.pruners import NopPruner, SuccessiveHalvingPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from common.errors import UserError
from pipelines.search.sampling import SamplerName, point_values, propose
from pipelines.search.sweep_file import SweepFile, read_sweep

_ADOPTIONS = 5  # of one trial; one that takes its launcher down each time is given up

State = Literal["running", "finished", "pruned", "failed", "interrupted"]


@dataclass(frozen=True)
class Trial:
    """One point of a sweep and what became of it.

    Attributes:
        number: from 0.
        run_id: its run's name, on disk and on W&B.
        values: its parameters by dotted name, constants included.
        state: "interrupted" if its launcher is gone and no other has adopted it yet.
        metric: the metric's values as they were logged.
        best: the best of them; None without any.
        reason: why it failed.
        seconds: how long it took, so far if it runs.
    """

    number: int
    run_id: str
    values: dict[str, Any]
    state: State
    metric: list[float]
    best: float | None
    reason: str | None
    seconds: float | None


class _Lock:
    """A lock that the system takes back from a killed process at once; Optuna's own ones wait half a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def acquire(self) -> bool:
        self._file = self._path.open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        assert self._file is not None
        self._file.close()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Search:
    """A sweep, as one launcher or a reader sees it.

    Args:
        folder: `<logs>/sweeps/<sweep id>`, made by `create`.

    Raises:
        ValueError: the folder holds no sweep, or its journal is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not (folder / "sweep.yaml").is_file() or not (folder / "journal.log").is_file():
            raise UserError(f"{folder} is no sweep; give a folder under logs/sweeps/, as `sweep run` made it.")
        self.sweep: SweepFile = read_sweep(folder / "sweep.yaml")
        _check_journal(folder / "journal.log")
        backend = JournalFileBackend(str(folder / "journal.log"), lock_obj=cast(Any, _Lock(folder / "journal.lock")))
        try:
            self._storage = JournalStorage(backend)
            self._study = optuna.load_study(study_name=None, storage=self._storage, pruner=_pruner(self.sweep))
        except Exception as error:  # whatever Optuna trips over in lines that are JSON but not its own
            raise UserError(f"{folder / 'journal.log'} is no journal of a sweep ({error}); restore the file.") from None
        attributes = self._study.user_attrs
        self._sampler: SamplerName = attributes["sampler"]
        self._seed: int = attributes["seed"]
        self.run_cap: int | None = attributes["run_cap"]
        self.time_limit: float | None = attributes["time_limit"]
        self.launcher: str | None = None
        self._launcher_lock: TextIO | None = None

    @classmethod
    def create(
        cls,
        sweep: SweepFile,
        logs: Path,
        sampler: SamplerName = "tpe",
        seed: int = 0,
        run_cap: int | None = None,
        time_limit: float | None = None,
    ) -> "Search":
        """Makes the folder of a new sweep.

        Args:
            sweep: what to search.
            logs: where runs live.
            sampler: for the method bayes.
            seed: of the search, not of the runs.
            run_cap: overrides the sweep file's.
            time_limit: seconds after which a trial fails; None for no limit.
        """
        folder = logs / "sweeps" / f"{sweep.path.stem}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        (folder / "trials").mkdir(parents=True)
        (folder / "launchers").mkdir()
        backend = JournalFileBackend(str(folder / "journal.log"), lock_obj=cast(Any, _Lock(folder / "journal.lock")))
        study = optuna.create_study(storage=JournalStorage(backend), study_name=folder.name, direction=sweep.goal)
        options = {"sampler": sampler, "seed": seed, "run_cap": run_cap or sweep.run_cap, "time_limit": time_limit}
        for name, value in options.items():
            study.set_user_attr(name, value)
        (folder / "sweep.yaml").write_text(sweep.text)  # last: a folder without it is no sweep
        return cls(folder)

    @property
    def root(self) -> Path:
        """The directory that holds `logs`, in which the trials are started."""
        return self.folder.parents[2]

    def run_folder(self, trial: Trial) -> Path | None:
        """Where a trial's run keeps its files, once it has made the folder."""
        return next(self.folder.parents[1].glob(f"*/{trial.run_id}/"), None)

    def join(self) -> int:
        """Takes part as a launcher from now on.

        Returns:
            The descriptor of this launcher's lock: a process that inherits it keeps the launcher alive to others.
        """
        self.launcher = f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"
        self._launcher_lock = (self.folder / "launchers" / self.launcher).open("w")
        fcntl.flock(self._launcher_lock, fcntl.LOCK_EX)
        return self._launcher_lock.fileno()

    def leave(self) -> None:
        """Takes part no longer; trials of this launcher that still run are up for adoption."""
        assert self.launcher is not None and self._launcher_lock is not None
        (self.folder / "launchers" / self.launcher).unlink(missing_ok=True)
        self._launcher_lock.close()

    def next(self) -> Trial | None:
        """The next trial, now in this launcher's hands: an interrupted one if there is any, else a new point.

        Returns:
            None if there is nothing left to start.
        """
        assert self.launcher is not None, "join first"
        with _Lock(self.folder / "choose.lock"):  # one launcher at a time chooses what to start
            frozen = self._frozen()
            for trial in frozen:
                if trial.state == TrialState.RUNNING and not self._alive(trial.user_attrs["launcher"]):
                    if trial.user_attrs.get("adoptions", 0) < _ADOPTIONS:
                        adoptions = trial.user_attrs.get("adoptions", 0) + 1
                        self._storage.set_trial_user_attr(trial._trial_id, "adoptions", adoptions)
                        self._storage.set_trial_user_attr(trial._trial_id, "launcher", self.launcher)
                        return self._trial(self._storage.get_trial(trial._trial_id))
                    self.finish(trial.number, "failed", f"its launcher died {_ADOPTIONS + 1} times while it ran", 0.0)
            if self.run_cap is not None and len(frozen) >= self.run_cap:
                return None
            params = propose(self.sweep, frozen, self._sampler, self._seed)
            if params is None:
                return None
            space = {name: distribution.optuna for name, distribution in self.sweep.searched.items()}
            template = create_trial(
                state=TrialState.RUNNING, params=params, distributions=space, user_attrs={"launcher": self.launcher}
            )
            trial_id = self._storage.create_new_trial(self._study._study_id, template)
            return self._trial(self._storage.get_trial(trial_id))

    def report(self, number: int, metric: list[float]) -> bool:
        """Notes the metric's values, all finite, of a running trial; true if others do better and it should stop."""
        trial_id = self._id(number)
        known = len(self._storage.get_trial(trial_id).intermediate_values)
        for place in range(known, len(metric)):
            self._storage.set_trial_intermediate_value(trial_id, place + 1, metric[place])
            if self._study.pruner.prune(self._study, self._storage.get_trial(trial_id)):
                return True
        return False

    def finish(
        self, number: int, state: Literal["finished", "pruned", "failed"], reason: str | None, seconds: float
    ) -> None:
        """Notes how a trial ended."""
        trial_id = self._id(number)
        trial = self._storage.get_trial(trial_id)
        self._storage.set_trial_user_attr(trial_id, "seconds", seconds)
        if reason:
            self._storage.set_trial_user_attr(trial_id, "reason", reason)
        values = [value for _, value in sorted(trial.intermediate_values.items())]
        best = self._best(values)
        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        self._storage.set_trial_state_values(
            trial_id, states[state], None if best is None or state == "failed" else [best]
        )

    def trials(self) -> list[Trial]:
        """All trials, best first, those without a value last."""
        trials = [self._trial(trial) for trial in self._frozen()]
        sign = -1 if self.sweep.goal == "maximize" else 1
        rank = {"finished": 0, "pruned": 0, "running": 0, "interrupted": 0, "failed": 1}
        return sorted(
            trials,
            key=lambda trial: (rank[trial.state], math.inf if trial.best is None else sign * trial.best, trial.number),
        )

    def _trial(self, trial: FrozenTrial) -> Trial:
        metric = [value for _, value in sorted(trial.intermediate_values.items())]
        states = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        state = states.get(trial.state) or (
            "running" if self._alive(trial.user_attrs.get("launcher", "")) else "interrupted"
        )
        seconds = trial.user_attrs.get("seconds")
        if seconds is None and state == "running" and trial.datetime_start is not None:
            seconds = (datetime.now() - trial.datetime_start).total_seconds()
        return Trial(
            number=trial.number,
            run_id=f"{self.folder.name}-{trial.number:04d}",
            values=point_values(self.sweep, trial.params),
            state=cast(State, state),
            metric=metric,
            best=self._best(metric),
            reason=trial.user_attrs.get("reason"),
            seconds=seconds,
        )

    def _best(self, values: list[float]) -> float | None:
        better = max if self.sweep.goal == "maximize" else min
        return better(values, default=None)

    def _frozen(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def _alive(self, launcher: str) -> bool:
        if launcher == self.launcher:
            return True
        try:
            with (self.folder / "launchers" / launcher).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def _pruner(sweep: SweepFile) -> optuna.pruners.BasePruner:
    """Hyperband as W&B does it: one bracket, asynchronous (Li et al., "ASHA", MLSys 2020, arXiv 1810.05934)."""
    if sweep.early_terminate is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=sweep.early_terminate.first, reduction_factor=sweep.early_terminate.eta)


def _check_journal(file: Path) -> None:
    """Finds a damaged line before Optuna does; a last line that a kill cut short is dropped, for it never happened.

    Raises:
        ValueError: the number of the first damaged line, and what to do.
    """
    with _Lock(file.with_name("journal.lock")):
        content = file.read_bytes()
        whole, _, rest = content.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            try:
                json.loads(line)
            except ValueError:
                raise UserError(
                    f"{file} is damaged in line {number}; delete that line or restore the file, then resume."
                ) from None
        if rest:
            with file.open("r+b") as journal:
                journal.truncate(len(content) - len(rest))
