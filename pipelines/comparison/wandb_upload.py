"""Uploads to W&B the runs that were tracked offline, one after another."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.proxy import pass_on_all_proxy
from pipelines.run.status import read_status
from pipelines.tracking.secrets import without_passwords
from pipelines.tracking.wandb_files import is_sent, mark_sent, unsent_files
from pipelines.tracking.wandb_mode import logged_in

# Output of `wandb sync` for the file of a killed run: its last record is incomplete, or not even the first was written.
_CUT_BY_A_KILL = re.compile(r"ends with an incomplete record|transactionlog: .*EOF")


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
    pass_on_all_proxy()
    running = [folder for folder in folders if read_status(folder).state == "running"]
    unsent = [(folder, files) for folder in folders if folder not in running for files in unsent_files(folder)]
    for folder in running:
        print(f"skipped  {folder}: still running; send it when it has ended")
    failed: list[Path] = []  # folders of the runs whose files were not all sent
    for number, (folder, files) in enumerate(unsent, 1):
        print(f"{number}/{len(unsent)}  {files}  ", end="", flush=True)
        if folder in failed:  # W&B appends what it gets, so an earlier part would come to stand after this one
            problem: str | None = "an earlier part of this run was not sent"
        else:
            problem = _send(files)
        failed += [folder] if problem is not None else []
        print("sent" if problem is None else f"failed: {problem}", flush=True)
    if not unsent:
        print("Nothing to send: no run has offline W&B files that were not sent yet.")
    else:
        print(f"{len(unsent) - len(failed)} sent, {len(failed)} failed")
    return not failed


def _send(files: Path) -> str | None:
    """Sends one folder; returns what went wrong, or None."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", str(files)]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    output = ended.stderr + ended.stdout
    if _CUT_BY_A_KILL.search(output):  # all whole records were sent; sent again, they would stand there twice
        for file in files.glob("*.wandb"):
            mark_sent(file)
    # `wandb sync` may exit with status 0 although the server refused; only the marker is reliable.
    elif ended.returncode != 0 or not all(is_sent(file) for file in files.glob("*.wandb")):
        lines = [line.removeprefix("wandb: ").strip() for line in output.splitlines()]
        errors = [line for line in lines if "error" in line.lower()] or [line for line in lines if line]
        return without_passwords(errors[-1] if errors else f"wandb sync ended with status {ended.returncode}")
    return None
