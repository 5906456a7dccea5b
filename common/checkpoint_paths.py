"""The checkpoint that a path means: a file, or the best one in the folder of a run."""

from pathlib import Path

from common.errors import UserError

CHECKPOINTS = "checkpoints"


def checkpoint_of(path: Path) -> Path:
    """Returns a file as it is, and for the folder of a run its best checkpoint, else its last.

    Raises:
        ValueError: If a folder has no checkpoint.
    """
    if not path.is_dir():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / CHECKPOINTS / name).is_file():
            return path / CHECKPOINTS / name
    raise UserError(f"{path} has no {CHECKPOINTS}/best.ckpt; use a .ckpt file or the folder of a run trained by `fit`.")
