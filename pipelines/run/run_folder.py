"""Folder of a run, `logs/<topic>/<run id>/`: configuration, metrics, checkpoints, pictures and W&B files."""

import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from common.errors import UserError
from common.user_paths import user_path
from pipelines.artifacts.names import is_artifact
from pipelines.run.status import read_status
from pipelines.tracking.run_id import check_run_id

_RUN_ID = "LIGHTNING_231N_RUN_ID"  # passes the id to the processes that Lightning starts for the other devices
_LOGS = Path("logs")
_SWEEPS = "sweeps"  # the folder of all sweeps in `logs`


@dataclass(frozen=True)
class RunFolder:
    """Paths in the folder of a run.

    Attributes:
        path: Path of the folder, `<logs>/<topic>/<run id>`.
    """

    path: Path

    @property
    def topic(self) -> str:
        return self.path.parent.name

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        """Resolved configuration, accepted by `--config`."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Checkpoint with the best monitored metric."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """Latest checkpoint, from which `fit` resumes."""
        return self.checkpoints / "last.ckpt"

    @property
    def has_results(self) -> bool:
        """Whether a run has left figures or checkpoints here that must not be replaced unasked."""
        if any(self.path.rglob("*.ckpt")):
            return True
        state = read_status(self.path).state
        return state == "finished" or (state == "unknown" and (self.path / "metrics.csv").is_file())

    def files_to_keep(self) -> list[Path]:
        """Returns the files that no result of a command may replace: configuration, metrics and checkpoints."""
        return [self.config, self.path / "metrics.csv", *self.checkpoints.glob("*")]

    @classmethod
    def new(cls, topic: str) -> "RunFolder":
        """Returns the folder of a new run, in `logs/` of the working directory; it is not created.

        W&B's agent sets the id of a sweep's run, and SLURM the id of a run started by `srun`; otherwise it is the time
        and four random digits.

        Raises:
            ValueError: If a given id can't be the name of a folder, W&B refuses it, or a run of any topic has results
                under it.
        """
        source, run_id = given_id()
        if source:
            check_run_id(run_id, source)
            _check_results(run_id, source, topic)
        os.environ[_RUN_ID] = run_id
        return cls.of_id(topic, run_id)

    @classmethod
    def of_id(cls, topic: str, run_id: str) -> "RunFolder":
        """Returns the folder of the run of a topic with an id."""
        return cls(_LOGS / topic / run_id)

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "RunFolder | None":
        """Returns the folder of the run that wrote a checkpoint; None if the checkpoint is not in such a folder."""
        # As it was typed, first: the folder of the checkpoints may be a link to a larger disk.
        for path in (Path(os.path.normpath(checkpoint.absolute())), checkpoint.resolve()):
            run = cls(path.parent.parent)
            if run.config.is_file():
                return run
        return None


def topic_of(config: Path) -> str:
    """Returns the topic that a configuration gives its runs: its name, or the topic of the run that wrote it.

    Raises:
        ValueError: If the name can't be that of a folder of runs.
    """
    folder = Path(os.path.normpath(config.absolute())).parent
    if config.name == "config.yaml" and ((folder / "status.json").is_file() or (folder / "checkpoints").is_dir()):
        return RunFolder(folder).topic
    if config.stem.startswith(".") or config.stem == _SWEEPS:
        raise UserError(
            f"{config} gives its runs the topic {config.stem!r}, which can't be a folder of runs in logs; rename the "
            "file."
        )
    return config.stem


def given_id() -> tuple[str, str]:
    """Returns what sets the id of a new run, and the id; nothing sets a fresh one."""
    if os.environ.get("WANDB_RUN_ID"):
        return "WANDB_RUN_ID", os.environ["WANDB_RUN_ID"]
    if "LOCAL_RANK" in os.environ and os.environ.get(_RUN_ID):
        return _RUN_ID, os.environ[_RUN_ID]
    if (run_id := _srun_id()) is not None:
        return "SLURM's job step", run_id
    return "", f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _check_results(run_id: str, source: str, topic: str) -> None:
    """Checks that no run of any topic has results under an id that was given.

    All ranks may call it: until they have met, none of them has left any results.

    Raises:
        ValueError: If one has.
    """
    for folder in sorted(_LOGS.iterdir()) if _LOGS.is_dir() else []:
        run = RunFolder(folder / run_id)
        if folder.name != _SWEEPS and run.path.is_dir() and run.has_results:
            unset = "unset WANDB_RUN_ID" if source == "WANDB_RUN_ID" else "set WANDB_RUN_ID to another id"
            what = (
                "has the results of a run with this id" if folder.name == topic else f"is a run of topic {folder.name}"
            )
            raise UserError(
                f"{source} is {run_id!r}, but {run.path} {what}; continue that run with --ckpt_path {run.path}, or "
                f"{unset} for a new one."
            )


def _srun_id() -> str | None:
    """Returns an id common to all processes of one `srun`, also after a requeue; None for any other process.

    A step's environment variables are inherited by every process in it, such as a shell that starts several runs. So
    they are used only in the process that `srun` itself started.
    """
    if os.environ.get("SLURM_TASK_PID") != str(os.getpid()) or "SLURM_STEP_ID" not in os.environ:
        return None
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "slurm")  # two clusters may share a W&B project
    return f"{cluster}-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"


def find_checkpoint(path: str, subcommand: str) -> Path:
    """Returns the checkpoint of a file or a run's folder: the last for `fit`, otherwise the best, else the last.

    Args:
        path: Path of the file or folder, or `wandb:ENTITY/PROJECT/ARTIFACT:ALIAS` for an artifact of W&B.
        subcommand: Command that uses it.

    Raises:
        ValueError: If there is no such file or artifact, or the folder has no checkpoints.
    """
    if is_artifact(path):
        from pipelines.artifacts.downloaded import downloaded

        given = downloaded(path)
    else:
        given = user_path(path)
    if given.is_dir():
        run = RunFolder(given)
        candidates = [run.last] if subcommand == "fit" else [run.best, run.last]
        for checkpoint in candidates:
            if checkpoint.is_file():
                return checkpoint
        raise UserError(f"{given} has no {candidates[0].relative_to(given)}; use the folder of a run trained by `fit`.")
    if not given.is_file():
        raise UserError(f"There is no checkpoint at {given}; use the path of a .ckpt file or of a run's folder.")
    return given


def find_run(path: str) -> tuple[RunFolder, Path]:
    """Returns run and checkpoint, given a checkpoint file or a run's folder (its best checkpoint, else its last).

    Raises:
        ValueError: If there is no checkpoint, or it is not in the folder of its run.
    """
    checkpoint = find_checkpoint(path, "test")
    run = RunFolder.of_checkpoint(checkpoint)
    if run is None:
        raise UserError(
            f"{checkpoint} is not in the folder of its run, whose config.yaml describes the model; move it back, or "
            "use the run's folder."
        )
    return run, checkpoint


def as_typed(path: Path) -> Path:
    """Returns a path relative to the working directory if it is in it, possibly through a link; otherwise absolute."""
    here = Path.cwd()
    for whole in (path.absolute(), path.resolve()):
        if whole.is_relative_to(here):
            return whole.relative_to(here)
    return path.resolve()
