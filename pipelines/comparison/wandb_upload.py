"""Uploads to W&B the runs that were tracked offline, one after another."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from pipelines.run.status import read_status
from pipelines.tracking.wandb_login import logged_in


def upload(folders: Sequence[Path]) -> bool:
    """Uploads the offline W&B files of runs, and prints a line for each.

    Files that were sent before are skipped, as are running runs: W&B accepts each file only once.

    Args:
        folders: Folders of the runs.

    Returns:
        Whether all uploads succeeded.

    Raises:
        ValueError: If the user is not logged in to W&B.
    """
    if not logged_in():
        raise UserError("You are not logged in to W&B, so nothing can be sent; run `wandb login` first.")
    running = [folder for folder in folders if read_status(folder).state == "running"]
    unsent = [offline for folder in folders if folder not in running for offline in unsent_runs(folder)]
    for folder in running:
        print(f"skipped  {folder}: still running; send it when it has ended")
    failed = 0
    for number, offline in enumerate(unsent, 1):
        print(f"{number}/{len(unsent)}  {offline}  ", end="", flush=True)
        problem = _send(offline)
        failed += problem is not None
        print("sent" if problem is None else f"failed: {problem}", flush=True)
    if not unsent:
        print("Nothing to send: no run has offline W&B files that were not sent yet.")
    else:
        print(f"{len(unsent) - failed} sent, {failed} failed")
    return not failed


def unsent_runs(folder: Path) -> list[Path]:
    """Returns the `wandb/offline-run-*` folders of a run that are not empty and have not been sent, oldest first."""
    unsent = []
    for offline in sorted((folder / "wandb").glob("offline-run-*/")):
        files = list(offline.glob("*.wandb"))
        if files and not all(_sent(file) for file in files):
            unsent.append(offline)
    return unsent


def _sent(file: Path) -> bool:
    """Returns whether W&B has marked a file as sent, by `x.wandb.synced` next to `x.wandb`."""
    return file.with_name(f"{file.name}.synced").exists()


def _send(offline: Path) -> str | None:
    """Sends one folder; returns what went wrong, or None."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", str(offline)]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ended.returncode == 0 and all(_sent(file) for file in offline.glob("*.wandb")):
        return None
    # `wandb sync` may exit with status 0 although the server refused; only the marker is reliable.
    lines = [line.removeprefix("wandb: ").strip() for line in (ended.stderr + ended.stdout).splitlines()]
    errors = [line for line in lines if "error" in line.lower()] or [line for line in lines if line]
    return errors[-1] if errors else f"wandb sync ended with status {ended.returncode}"
