"""Sends to W&B what runs tracked offline, one after another."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from pipelines.run.status import read_status
from pipelines.tracking.wandb_login import logged_in


def upload(folders: Sequence[Path]) -> bool:
    """Sends the offline W&B runs of some runs, a line of progress for each.

    What was sent before is left out, as is a run that still goes on: W&B takes each of its files once.

    Args:
        folders: of the runs.

    Returns:
        Whether nothing failed.

    Raises:
        ValueError: nobody is logged in to W&B.
    """
    if not logged_in():
        raise UserError("You are not logged in to W&B, so nothing can be sent; run `wandb login` first.")
    running = [folder for folder in folders if read_status(folder).state == "running"]
    unsent = [offline for folder in folders if folder not in running for offline in unsent_runs(folder)]
    for folder in running:
        print(f"left out  {folder}: still running; send it when it has ended")
    failed = 0
    for place, offline in enumerate(unsent, 1):
        print(f"{place}/{len(unsent)}  {offline}  ", end="", flush=True)
        problem = _send(offline)
        failed += problem is not None
        print("sent" if problem is None else f"failed: {problem}", flush=True)
    if not unsent:
        print("Nothing to send: no run has W&B files that were tracked offline and not sent yet.")
    else:
        print(f"{len(unsent) - failed} sent, {failed} failed")
    return not failed


def unsent_runs(folder: Path) -> list[Path]:
    """The `wandb/offline-run-*` folders of a run that hold something and have not been sent, oldest first."""
    found = []
    for offline in sorted((folder / "wandb").glob("offline-run-*/")):
        files = list(offline.glob("*.wandb"))
        if files and not all(_sent(file) for file in files):
            found.append(offline)
    return found


def _sent(file: Path) -> bool:
    """W&B leaves `x.wandb.synced` beside `x.wandb` when the server has it all."""
    return file.with_name(f"{file.name}.synced").exists()


def _send(offline: Path) -> str | None:
    """Sends one; what went wrong, or None."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", str(offline)]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ended.returncode == 0 and all(_sent(file) for file in offline.glob("*.wandb")):
        return None
    # `wandb sync` may end with status 0 although the server refused; the marker is what counts.
    said = [line.removeprefix("wandb: ").strip() for line in (ended.stderr + ended.stdout).splitlines()]
    errors = [line for line in said if "error" in line.lower()] or [line for line in said if line]
    return errors[-1] if errors else f"wandb sync ended with status {ended.returncode}"
