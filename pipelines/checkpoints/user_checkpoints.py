"""Places the files of ModelCheckpoints that the user adds to `trainer.callbacks` beside those of the run."""

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from common.errors import UserError
from pipelines.checkpoints.best_checkpoint import BestCheckpoint
from pipelines.run.resume import LastCheckpoint


def place_user_checkpoints(callbacks: Sequence[Callback], folder: Path) -> None:
    """Sets the folder of every ModelCheckpoint without one to the run's `checkpoints/`.

    Raises:
        ValueError: If one would write `best.ckpt` or `last.ckpt`, which the run itself writes.
    """
    for callback in callbacks:
        if not isinstance(callback, ModelCheckpoint) or isinstance(callback, BestCheckpoint | LastCheckpoint):
            continue
        if callback.dirpath is not None and Path(callback.dirpath) != folder.resolve():
            continue
        callback.dirpath = str(folder.resolve())
        if callback.filename in ("best", "last"):
            raise UserError(
                f"A ModelCheckpoint in trainer.callbacks has the filename {callback.filename!r}, but the run itself "
                f"writes {callback.filename}.ckpt; choose another filename."
            )
        if callback.save_last:
            raise UserError(
                "A ModelCheckpoint in trainer.callbacks has save_last, but every run writes last.ckpt; leave it out."
            )
