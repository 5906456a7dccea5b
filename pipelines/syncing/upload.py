"""Sends to W&B what has not arrived: runs tracked offline, and what a kill or a dead server has left of online ones."""

from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.proxy import pass_on_all_proxy
from pipelines.run.status import read_status
from pipelines.syncing.missing_rows import send_missing_rows
from pipelines.syncing.parts import send_part
from pipelines.tracking.wandb_files import is_sent, parts
from pipelines.tracking.wandb_mode import logged_in


def upload(folders: Sequence[Path]) -> bool:
    """Sends what W&B lacks of runs, and prints a line for each part of it.

    Each start of a run has a part of its own, W&B's file of it. Parts that were sent before are skipped, as are running
    runs.

    Args:
        folders: Folders of the runs.

    Returns:
        Whether all parts were sent.

    Raises:
        ValueError: If the user is not logged in to W&B.
    """
    if not logged_in():
        raise UserError("You are not logged in to W&B, so nothing can be sent; run `wandb login` first.")
    pass_on_all_proxy()
    running = [folder for folder in folders if read_status(folder).state == "running"]
    unsent = [
        (folder, file) for folder in folders if folder not in running for file in parts(folder) if not is_sent(file)
    ]
    for folder in running:
        print(f"skipped  {folder}: still running; send it when it has ended")
    failed: list[Path] = []  # folders of the runs of which a part was not sent
    for number, (folder, file) in enumerate(unsent, 1):
        print(f"{number}/{len(unsent)}  {file.parent}  ", end="", flush=True)
        if folder in failed:  # W&B appends what it gets, so the earlier part would follow this one there
            problem: str | None = "an earlier part of this run was not sent"
        else:
            problem = send_part(file, folder) or send_missing_rows(file, folder)
        failed += [folder] if problem is not None else []
        print("sent" if problem is None else f"failed: {problem}", flush=True)
    if not unsent:
        print("Nothing to send: W&B has everything of these runs.")
    else:
        print(f"{len(unsent) - len(failed)} sent, {len(failed)} failed")
    return not failed
