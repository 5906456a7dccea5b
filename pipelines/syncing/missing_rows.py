"""Sends the rows and settings that W&B's client had in memory when a run was killed: its folder has them."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.syncing.arrived import STEP, Row, read_rows, split
from pipelines.syncing.server import init_arguments, problem_of, run_on_server, settings_of
from pipelines.syncing.wandb_log import has_ended, read_history
from pipelines.tracking.run_id import wandb_run_id
from pipelines.tracking.wandb_files import parts

_KILLED = 1  # exit code on W&B, as `wandb sync` gives it to a run without one


def send_missing_rows(file: Path, folder: Path) -> str | None:
    """Sends the rows after the last one in a run on W&B, and its settings if W&B has none; returns what went wrong.

    The rows are those up to the next start of the run.

    Args:
        file: W&B's file of a start of the run; nothing is missing if it has that start's end.
        folder: Folder of the run.
    """
    rows = read_rows(folder / "metrics.csv")
    if not rows or has_ended(file):
        return None
    later = parts(folder)[parts(folder).index(file) + 1 :]
    begin = next((row[STEP] for part in later for row in read_history(part) if STEP in row), math.inf)
    try:
        run = run_on_server(folder)
        _, missing = split(rows, dict(run.summary) if run is not None else {})
        missing = [row for row in missing if row.step < begin]
        if missing or run is None or "model" not in run.config:  # settings are lost too if it is killed early
            _send(missing, folder)
    except Exception as error:  # whatever the server does
        return problem_of(error)
    return None


def _send(rows: list[Row], folder: Path) -> None:
    import wandb

    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, finish_timeout_raises=True)
    with TemporaryDirectory(prefix="wandb-", ignore_cleanup_errors=True) as scratch:
        run = wandb.init(
            mode="online", id=wandb_run_id(folder.name), dir=scratch, resume="allow", settings=settings,
            **init_arguments(folder),
        )  # fmt: skip
        if "model" not in run.config:  # it was killed before W&B's client had sent its settings
            run.define_metric(STEP)
            run.define_metric("*", step_metric=STEP)
            run.config.update(settings_of(folder), allow_val_change=True)
        for row in rows:
            run.log({**row.metrics, STEP: row.step})
        run.finish(exit_code=_KILLED)
