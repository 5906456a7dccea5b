"""A run that goes on sends W&B what a kill has lost, and nothing that is there already."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.syncing.arrived import STEP, Arrived, Row, read_rows, split
from pipelines.syncing.wandb_log import read_history
from pipelines.tracking.wandb_files import is_offline, parts


def go_on(run: Any, folder: Path, resume_step: int) -> Arrived:
    """Sends the rows before a step that W&B lacks, and returns what it has.

    Args:
        run: W&B run, resumed or new.
        folder: Folder of the run, whose metrics.csv has the rows of all attempts.
        resume_step: Step from which the run goes on.
    """
    rows = read_rows(folder / "metrics.csv")
    earlier = [file for file in parts(folder) if file.parent.resolve() != Path(run.settings.sync_dir).resolve()]
    arrived, missing = _of_files(earlier, rows)
    if not run.offline:
        summary = dict(run.summary) if run.resumed else {}
        on_server, missing_there = split(rows, summary)
        # What is in files of offline attempts is sent by `compare upload`.
        offline = any(map(is_offline, earlier))
        if not offline or on_server.step >= arrived.step:
            arrived, missing = on_server, missing_there
    for row in missing:
        if row.step < resume_step:
            run.log({**row.metrics, STEP: row.step})
    return arrived


def _of_files(files: list[Path], rows: list[Row]) -> tuple[Arrived, list[Row]]:
    """Returns what W&B's files of earlier attempts have, oldest first, and the rows after it.

    What was handed to W&B online counts as arrived: `compare upload` sends what did not.
    """
    handed = max((row.step for row in rows), default=-1)
    for file in reversed(files):
        if not is_offline(file):
            return Arrived(handed), []
        if summary := _summary(read_history(file)):
            return split(rows, summary)
    return (Arrived(), rows) if files else (Arrived(handed), [])


def _summary(history: Iterator[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for row in history:
        summary |= row
    return summary
