"""Where a run lives: `logs/<topic>/<run id>/` with its configuration, metrics, checkpoints, pictures and W&B files."""

import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from common.errors import UserError

_RUN_ID = "LIGHTNING_231N_RUN_ID"  # hands the id on to the processes that Lightning starts for the other devices


@dataclass(frozen=True)
class RunFolder:
    """One run on disk.

    Attributes:
        path: `<logs>/<topic>/<run id>`.
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
        """The resolved configuration, as `--config` takes it."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The checkpoint with the best headline metric."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """The newest checkpoint, from which `fit` goes on."""
        return self.checkpoints / "last.ckpt"

    @classmethod
    def new(cls, topic: str) -> "RunFolder":
        """A folder for a new run: under `logs/` where the command is given.

        W&B's agent chooses the id of a sweep's run, and SLURM that of a run whose processes `srun` started; otherwise
        it is the time and a few random digits.
        """
        fresh = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        inherited = os.environ.get(_RUN_ID) if "LOCAL_RANK" in os.environ else None
        run_id = os.environ.get("WANDB_RUN_ID") or inherited or _srun_id() or fresh
        os.environ[_RUN_ID] = run_id
        return cls(Path("logs") / topic / run_id)

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "RunFolder | None":
        """The run that wrote a checkpoint, if the checkpoint still lies in its folder."""
        run = cls(checkpoint.resolve().parent.parent)
        return run if run.config.is_file() else None


def _srun_id() -> str | None:
    """What all processes that one `srun` started agree on, again when the job is requeued; None for any other process.

    The variables of a step are inherited by whatever runs within it, such as a shell with one run after the other. So
    they count only for the very process that `srun` started.
    """
    if os.environ.get("SLURM_TASK_PID") != str(os.getpid()) or "SLURM_STEP_ID" not in os.environ:
        return None
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "slurm")  # two clusters may share a W&B project
    return f"{cluster}-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"


def find_checkpoint(path: str, subcommand: str) -> Path:
    """The checkpoint meant by `--ckpt_path`: a file, or a run's folder (its last for `fit`, else its best or last).

    Raises:
        ValueError: nothing there, or a folder without checkpoints.
    """
    given = Path(path)
    if given.is_dir():
        run = RunFolder(given)
        wanted = [run.last] if subcommand == "fit" else [run.best, run.last]
        for checkpoint in wanted:
            if checkpoint.is_file():
                return checkpoint
        raise UserError(f"{given} has no {wanted[0].relative_to(given)}; give the folder of a run that `fit` trained.")
    if not given.is_file():
        raise UserError(f"There is no checkpoint at {given}; give the path of a .ckpt file or of a run's folder.")
    return given


def find_run(path: str) -> tuple[RunFolder, Path]:
    """The run and the checkpoint meant by a checkpoint's path, or by a run's folder (its best, else its last).

    Raises:
        ValueError: no checkpoint there, or one that no longer lies in its run's folder.
    """
    checkpoint = find_checkpoint(path, "test")
    run = RunFolder.of_checkpoint(checkpoint)
    if run is None:
        raise UserError(
            f"{checkpoint} does not lie in the folder of its run, whose config.yaml says what the model is; "
            "put it back, or give the run's folder."
        )
    return run, checkpoint


def as_typed(path: Path) -> Path:
    """A path as a person would type it from here."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
