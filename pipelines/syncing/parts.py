"""Sends one part of a run to W&B, the `.wandb` file of one start, without the rows that have arrived.

`wandb sync` sends a whole file, and W&B appends what it gets: rows that an online run had sent before its server died
would be there twice. So it gets a copy of the file without them. W&B numbers the rows of a run; those up to the number
in the run's summary have arrived.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pipelines.syncing.server import problem_of, run_on_server
from pipelines.syncing.wandb_log import copy_records
from pipelines.tracking.secrets import without_passwords
from pipelines.tracking.wandb_files import REST, is_offline, is_sent, mark_sent

# Output of `wandb sync` for the file of a killed run: its last record is incomplete, or not even the first was written.
_CUT_BY_A_KILL = re.compile(r"ends with an incomplete record|transactionlog: .*EOF")


def send_part(file: Path, folder: Path) -> str | None:
    """Sends what W&B lacks of a `.wandb` file and marks it as sent; returns what went wrong, or None.

    Args:
        file: The file.
        folder: Folder of the run.
    """
    start = _starting_step(file)
    if start is None:  # none of it was ever sent
        return _sync(file.parent, file)
    try:
        run = run_on_server(folder)
    except Exception as error:
        return problem_of(error)
    last = -1 if run is None else int(run.summary.get("_step", -1))
    offset = start if is_offline(file) else 0
    rest = file.with_name(f"{REST}{file.name}")
    try:
        rows, arrived = copy_records(file, rest, lambda history: offset + history.step.num > last)
        if arrived == 0:
            rest.unlink()  # or it would be sent as well: `wandb sync` sends every file in a folder
            return _sync(file.parent, file)
        if arrived == rows and run is not None and run.state not in ("running", "crashed"):
            mark_sent(file)
            return None
        shutil.copyfile(_state(file), _state(rest))
        problem = _sync(rest, rest)
        if problem is None:
            mark_sent(file)
        return problem
    finally:
        for left in file.parent.glob(f"{rest.name}*"):
            left.unlink()


def _state(file: Path) -> Path:
    """Returns the file in which W&B's client keeps where it began to send a `.wandb` file."""
    return file.with_name(f"{file.name}.syncstate")


def _starting_step(file: Path) -> int | None:
    """Returns the number on W&B of the first row of a file; None if it was never sent."""
    try:
        return int(json.loads(_state(file).read_text())["starting_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sync(path: Path, file: Path) -> str | None:
    """Runs `wandb sync` on a path, the file or its folder; returns what went wrong, or None."""
    online = [] if is_offline(file) else ["--include-online"]
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *online, str(path)]
    spoken = {name: value for name, value in os.environ.items() if name not in ("WANDB_SILENT", "WANDB_QUIET")}
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=spoken)
    output = ended.stderr + ended.stdout
    if _CUT_BY_A_KILL.search(output):  # all whole records were sent; sent again, they would be there twice
        mark_sent(file)
    # `wandb sync` may exit with status 0 although the server refused; only the marker is reliable.
    elif ended.returncode != 0 or not is_sent(file):
        lines = [line.removeprefix("wandb: ").strip() for line in output.splitlines()]
        errors = [line for line in lines if "error" in line.lower()] or [line for line in lines if line]
        return without_passwords(errors[-1] if errors else f"wandb sync ended with status {ended.returncode}")
    return None
