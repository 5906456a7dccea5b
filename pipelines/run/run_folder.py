"""Folder of a run, `logs/<topic>/<run id>/`: configuration, metrics, checkpoints, pictures and W&B files."""

import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from common.errors import UserError
from pipelines.tracking.run_id import check_run_id

_RUN_ID = "LIGHTNING_231N_RUN_ID"  # passes the id to the processes that Lightning starts for the other devices


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

    @classmethod
    def new(cls, topic: str) -> "RunFolder":
        """Returns the folder of a new run, in `logs/` of the working directory; it is not created.

        W&B's agent sets the id of a sweep's run, and SLURM the id of a run started by `srun`; otherwise it is the time
        and four random digits.

        Raises:
            ValueError: If WANDB_RUN_ID can't be the name of a folder, or W&B refuses it.
        """
        chosen = os.environ.get("WANDB_RUN_ID")
        if chosen:
            check_run_id(chosen, "WANDB_RUN_ID")
        fresh = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        inherited = os.environ.get(_RUN_ID) if "LOCAL_RANK" in os.environ else None
        run_id = chosen or inherited or _srun_id() or fresh
        os.environ[_RUN_ID] = run_id
        return cls(Path("logs") / topic / run_id)

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "RunFolder | None":
        """Returns the folder of the run that wrote a checkpoint; None if the checkpoint is not in such a folder."""
        run = cls(checkpoint.resolve().parent.parent)
        return run if run.config.is_file() else None


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

    Raises:
        ValueError: If there is no such file, or the folder has no checkpoints.
    """
    given = Path(path)
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
