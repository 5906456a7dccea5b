"""A sweep on disk: `logs/sweeps/<sweep id>/` with a copy of the sweep file and Optuna's journal of its trials.

Everything that must survive a kill is in the journal. Each running trial belongs to a launcher, a process that holds a
lock as long as it lives. When a launcher ends, its trials count as interrupted, and another launcher adopts them. So
launchers may start and end at any time, several at once and on several machines that share the folder, and no point is
tried twice.
"""

import math
import secrets
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any, Literal, cast

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from common.atomic_files import atomic_write
from common.errors import UserError
from common.file_locks import locked
from common.messages.counting import count
from pipelines.search.early_termination import pruner
from pipelines.search.journal import open_journal
from pipelines.search.locks import LauncherLock, any_alive, is_alive
from pipelines.search.sampling import SamplerName, point_values, propose
from pipelines.search.sweep_file import SweepFile, parse_sweep, read_sweep
from pipelines.tracking.run_id import id_stem

# What a resumed sweep must have in common with its beginning: fields of the sweep file, and their keys there.
_FIXED = {
    "method": "method",
    "metric": "metric",
    "goal": "metric.goal",
    "target": "metric.target",
    "parameters": "parameters",
    "command": "command",
    "early_terminate": "early_terminate",
}
_MAX_ADOPTIONS = 5  # of one trial; after that it counts as the cause of its launchers' deaths, and fails

State = Literal["running", "finished", "pruned", "failed", "interrupted"]
EndState = Literal["finished", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One point of a sweep and its result.

    Attributes:
        number: Index in the sweep, from 0.
        run_id: Id of its run, on disk and on W&B.
        values: Its parameters by dotted name, constants included.
        state: State of the trial; "interrupted" if its launcher has ended and no other has adopted it yet.
        metric: Values of the sweep's metric in the order in which they were logged.
        best: Best of them; None if there are none.
        reason: Why it failed; None if it did not.
        seconds: Duration, up to now if it is running; None if it is unknown.
    """

    number: int
    run_id: str
    values: dict[str, Any]
    state: State
    metric: list[float]
    best: float | None
    reason: str | None
    seconds: float | None


class Search:
    """A sweep in its folder, opened to read its trials, or to launch some after `join`.

    Args:
        folder: Folder `<logs>/sweeps/<sweep id>` that `create` made.

    Raises:
        ValueError: If the folder is not a sweep folder, or its journal is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "sweep.yaml").is_file() or not (folder / "journal.log").is_file():
            raise UserError(
                f"{folder} is not a sweep folder; give one under logs/sweeps/, where `sweep run` makes them."
            )
        try:
            self._storage = open_journal(folder)
            self._study = optuna.load_study(study_name=None, storage=self._storage)
            attributes = self._study.user_attrs
            self._sampler: SamplerName = attributes["sampler"]
            self._seed: int = attributes["seed"]
            self.time_limit: float | None = attributes["time_limit"]
            self.pack: int = attributes.get("pack", 1)  # sweeps of earlier versions have a process a trial
        except (UserError, OSError):
            raise
        except Exception as error:  # any that Optuna raises for lines that are JSON, but not its own
            raise UserError(f"{folder / 'journal.log'} is not a sweep's journal ({error}); restore the file.") from None
        self.folder, self.root = _unresolved(folder, attributes.get("root"))
        text = attributes.get("sweep_file")  # sweeps of earlier versions have the copy alone
        file = self.folder / "sweep.yaml"
        sweep = read_sweep(file) if text is None else parse_sweep(file, text)
        self.sweep: SweepFile = replace(sweep, name=attributes.get("name", sweep.name))
        self._study.pruner = pruner(self.sweep.early_terminate)
        self._lock: LauncherLock | None = None

    @classmethod
    def create(
        cls,
        sweep: SweepFile,
        logs: Path,
        sampler: SamplerName = "tpe",
        seed: int = 0,
        run_cap: int | None = None,
        time_limit: float | None = None,
        pack: int = 1,
    ) -> "Search":
        """Makes the folder of a new sweep.

        Args:
            sweep: The sweep file.
            logs: Folder of all runs.
            sampler: Sampler of the method bayes.
            seed: Seed of the search; the runs have seeds of their own.
            run_cap: Largest number of trials; None for the sweep file's.
            time_limit: Seconds after which a trial is stopped and fails; None for no limit.
            pack: Largest number of trials that are trained in one process, ≥ 1.
        """
        folder = logs / "sweeps" / f"{id_stem(sweep.path.stem)}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        try:
            (folder / "trials").mkdir(parents=True)
            (folder / "launchers").mkdir()
            study = optuna.create_study(storage=open_journal(folder), study_name=folder.name, direction=sweep.goal)
            attributes = {
                "sampler": sampler,
                "seed": seed,
                "run_cap": run_cap or sweep.run_cap,
                "time_limit": time_limit,
                "pack": pack,
                "name": sweep.name,  # by default that of its file, of which there is a copy of another name
                "sweep_file": sweep.text,
                "root": str(logs.absolute().parent),
            }
            for name, value in attributes.items():
                study.set_user_attr(name, value)
            with atomic_write(folder / "sweep.yaml") as temporary:  # last: a folder without it is not a sweep folder
                temporary.write_text(sweep.text, encoding="utf-8")
        except OSError:  # a full disk: nothing in it to keep
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(folder)

    @property
    def run_cap(self) -> int | None:
        """Largest number of trials; None for no limit."""
        cap: int | None = self._study.user_attrs["run_cap"]
        return cap

    def extend(self, run_cap: int | None) -> None:
        """Changes the largest number of trials, also for launchers that run already, before a sweep is resumed.

        Args:
            run_cap: The new number; None for that of the sweep.yaml in the folder if it was edited there.

        Raises:
            ValueError: If the sweep has more trials already, or something else was edited in its sweep.yaml.
        """
        edited = read_sweep(self.folder / "sweep.yaml")
        for field, name in _FIXED.items():
            if getattr(edited, field) != getattr(self.sweep, field):
                raise UserError(
                    f"{edited.path}: {name} was edited since the sweep began, and its trials would not be comparable; "
                    "undo that (run_cap alone may change), or start a new sweep with `sweep run`."
                )
        source = "--run-cap"
        if run_cap is None:
            if edited.run_cap == self.sweep.run_cap:
                return
            run_cap, source = edited.run_cap, "run_cap"
        number = len(self._optuna_trials())
        if run_cap is not None and run_cap < number:
            raise UserError(f"{source} is {run_cap}, but the sweep has {count(number, 'trial')} already; give more.")
        self._study.set_user_attr("run_cap", run_cap)
        self._study.set_user_attr("sweep_file", edited.text)

    def run_folder(self, trial: Trial) -> Path | None:
        """Returns the folder of a trial's run; None if the run has not made it yet."""
        return self.find_run(trial.run_id)

    def find_run(self, run_id: str) -> Path | None:
        """Returns the folder of the run with that id; None if there is none."""
        return next((self.root / "logs").glob(f"*/{escape(run_id)}/"), None)

    def join(self) -> LauncherLock:
        """Registers this process as a launcher of the sweep.

        Returns:
            The launcher's lock; a process that inherits its file descriptor keeps the launcher alive.
        """
        self._lock = LauncherLock(self.folder / "launchers")
        return self._lock

    def leave(self) -> None:
        """Unregisters the launcher; other launchers may adopt its trials that have not ended."""
        assert self._lock is not None
        self._lock.release()

    @property
    def has_launcher(self) -> bool:
        """Whether any launcher of the sweep is alive, on this or another machine."""
        return any_alive(self.folder / "launchers")

    def next_trial(self) -> Trial | None:
        """Assigns the next trial to this launcher: an interrupted one if there is any, else a new point.

        Returns:
            The trial; None if none is left to start.
        """
        assert self._lock is not None, "join first"
        launcher = self._lock.launcher
        with locked(self.folder / "choose.lock"):  # one launcher at a time chooses what to start
            optuna_trials = self._optuna_trials()
            for trial in optuna_trials:
                if trial.state == TrialState.RUNNING and not self._is_alive(trial.user_attrs["launcher"]):
                    adoptions = trial.user_attrs.get("adoptions", 0)
                    if adoptions < _MAX_ADOPTIONS:
                        self._storage.set_trial_user_attr(trial._trial_id, "adoptions", adoptions + 1)
                        self._storage.set_trial_user_attr(trial._trial_id, "launcher", launcher)
                        return self._trial(self._storage.get_trial(trial._trial_id))
                    reason = f"its launcher died {_MAX_ADOPTIONS + 1} times while it ran"
                    self.finish(trial.number, "failed", reason, 0.0)
            if self.run_cap is not None and len(optuna_trials) >= self.run_cap:
                return None
            if self.reached_target:
                return None
            params = propose(self.sweep, optuna_trials, self._sampler, self._seed)
            if params is None:
                return None
            space = {name: distribution.optuna for name, distribution in self.sweep.searched.items()}
            template = create_trial(
                state=TrialState.RUNNING, params=params, distributions=space, user_attrs={"launcher": launcher}
            )
            trial_id = self._storage.create_new_trial(self._study._study_id, template)
            return self._trial(self._storage.get_trial(trial_id))

    @property
    def reached_target(self) -> bool:
        """Whether a trial has reached the target of the sweep file's metric."""
        target = self.sweep.target
        if target is None:
            return False
        sign = -1 if self.sweep.goal == "maximize" else 1
        values = (value for trial in self._optuna_trials() for value in trial.intermediate_values.values())
        return any(sign * value <= sign * target for value in values)

    def report(self, number: int, metric: list[float]) -> bool:
        """Records the metric of a running trial.

        Args:
            number: Number of the trial.
            metric: All values logged so far, finite.

        Returns:
            Whether the trial should stop, because others do better (early termination).
        """
        trial_id = self._trial_id(number)
        recorded = len(self._storage.get_trial(trial_id).intermediate_values)
        for step, value in enumerate(metric[recorded:], recorded + 1):
            self._storage.set_trial_intermediate_value(trial_id, step, value)
            early = self.sweep.early_terminate
            if (
                early
                and early.compares(step)
                and self._study.pruner.prune(self._study, self._storage.get_trial(trial_id))
            ):
                return True
        return False

    def finish(self, number: int, state: EndState, reason: str | None, seconds: float) -> None:
        """Records how a trial ended."""
        trial_id = self._trial_id(number)
        trial = self._storage.get_trial(trial_id)
        self._storage.set_trial_user_attr(trial_id, "seconds", seconds)
        if reason:
            self._storage.set_trial_user_attr(trial_id, "reason", reason)
        values = [value for _, value in sorted(trial.intermediate_values.items())]
        best = None if state == "failed" else self._best(values)
        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        self._storage.set_trial_state_values(trial_id, states[state], None if best is None else [best])

    def trials(self) -> list[Trial]:
        """Returns all trials, best first; then those without a value, then failed ones."""
        trials = [self._trial(trial) for trial in self._optuna_trials()]
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
            "running" if self._is_alive(trial.user_attrs.get("launcher", "")) else "interrupted"
        )
        seconds = trial.user_attrs.get("seconds")
        if seconds is None and state == "running" and trial.datetime_start is not None:
            seconds = (datetime.now() - trial.datetime_start).total_seconds()
        return Trial(
            number=trial.number,
            run_id=f"{self._study.study_name}-{trial.number:04d}",
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

    def _optuna_trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def _is_alive(self, launcher: str) -> bool:
        own = self._lock.launcher if self._lock is not None else None
        return launcher == own or is_alive(self.folder / "launchers", launcher)


def _unresolved(folder: Path, root: str | None) -> tuple[Path, Path]:
    """Returns a sweep's folder, and the folder in which its trials are started, the parent folder of `logs`.

    `logs` or a folder in it may be a link to another disk. Links are not followed: relative paths of the sweep's
    command begin where the sweep was started.

    Args:
        folder: The sweep's folder, as given.
        root: Where the sweep was started; None if that is not known.
    """
    absolute = folder.absolute()
    if ".." in absolute.parts or absolute.name == "":
        absolute = folder.resolve()
    if root is not None:
        usual = Path(root) / "logs" / "sweeps" / absolute.resolve().name
        if usual.exists() and usual.samefile(absolute):
            return usual, Path(root)
    return absolute, absolute.parents[2]  # another machine's path, or moved with its logs
