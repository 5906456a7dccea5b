"""W&B's files of a run: where they are, and which of them W&B's server does not have yet."""

import contextlib
import os
from pathlib import Path

REST = "rest-of-"
"""Start of the name of a copy with what a `.wandb` file has and W&B lacks."""

AGENT_DIR = "LIGHTNING_231N_WANDB_DIR"  # the user's WANDB_DIR, where a W&B agent's own replaces it
_OWN_DATA_DIR = "LIGHTNING_231N_WANDB_DATA_DIR"  # the WANDB_DATA_DIR of the latest run, if the user has set none


def wandb_dir() -> Path | None:
    """Returns the folder that WANDB_DIR sets for the files of all runs; None for each run's own folder."""
    folder = os.environ.get(AGENT_DIR, os.environ.get("WANDB_DIR"))
    return Path(folder).expanduser() if folder else None


def link_files(folder: Path, files: Path) -> None:
    """Links the run's `wandb/` to files that W&B keeps elsewhere, so that they are found and sent from there.

    Args:
        folder: Folder of the run.
        files: Folder in which W&B keeps this run's files.
    """
    if not files.resolve().is_relative_to(folder.resolve()):
        with contextlib.suppress(OSError):  # a file system without links
            (folder / "wandb").mkdir(parents=True, exist_ok=True)
            (folder / "wandb" / files.name).symlink_to(files.resolve(), target_is_directory=True)


def parts(folder: Path) -> list[Path]:
    """Returns the `.wandb` files of a run, oldest first: each start has its own, online or offline."""
    files = (folder / "wandb").glob("*run-*/*.wandb")
    own = (file for file in files if not file.name.startswith(REST))
    return sorted(own, key=lambda file: file.parent.name.removeprefix("offline-"))


def is_offline(file: Path) -> bool:
    """Returns whether a `.wandb` file is of a start that was tracked offline."""
    return file.parent.name.startswith("offline-")


def stage_beside(files: Path) -> None:
    """Makes W&B stage artifacts beside a run's other files, unless WANDB_DATA_DIR is set.

    The images of tables are in artifacts, whose files are staged until they are sent. W&B's own place for them is one
    folder in the home folder for all runs, which nobody empties, and which a cluster's nodes may not be able to write.

    Args:
        files: Folder in which W&B keeps this run's files.
    """
    if os.environ.get("WANDB_DATA_DIR") in (None, "", os.environ.get(_OWN_DATA_DIR)):
        os.environ["WANDB_DATA_DIR"] = os.environ[_OWN_DATA_DIR] = str(files.resolve() / "data")


def unsent_files(folder: Path) -> list[Path]:
    """Returns the `wandb/offline-run-*` folders of a run that are not empty and have not been sent, oldest first.

    Each start of a run that is tracked offline has its own folder.
    """
    unsent = []
    for offline in sorted((folder / "wandb").glob("offline-run-*/")):
        files = list(offline.glob("*.wandb"))
        if files and not all(is_sent(file) for file in files):
            unsent.append(offline)
    return unsent


def is_sent(file: Path) -> bool:
    """Returns whether a file is marked as sent, by `x.wandb.synced` next to `x.wandb`, as W&B marks it."""
    return _marker(file).exists()


def mark_sent(file: Path) -> None:
    """Marks a file as sent, so that neither `wandb sync` nor `unsent_files` sends it again."""
    _marker(file).touch()


def _marker(file: Path) -> Path:
    return file.with_name(f"{file.name}.synced")
