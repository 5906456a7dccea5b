"""A command with the id of a run that exists goes on with it, as a preempted job that is queued again must."""

import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from common.errors import UserError
from pipelines.run.run_folder import RunFolder, as_typed, given_id


def run_to_continue(topic: str) -> RunFolder | None:
    """Returns the run of a topic whose id WANDB_RUN_ID or SLURM gives, if it has a checkpoint to go on from.

    Args:
        topic: Topic of the command.
    """
    source, run_id = given_id()
    run = RunFolder.of_id(topic, run_id)
    return run if source and run.last.is_file() else None


def check_same_settings(run: RunFolder, changed: Mapping[str, tuple[Any, Any]] | None) -> None:
    """Refuses a command whose settings are not those of the run that its id names.

    Raises:
        UserError: If one differs.
    """
    source, run_id = given_id()
    path = as_typed(run.path)
    if changed:
        key, (old, new) = next(iter(changed.items()))
        more = f" and {len(changed) - 1} more differ" if len(changed) > 1 else ""
        raise UserError(
            f"{source} is {run_id!r}, a run in {path} with {key} {old}, but {key} is {new}{more}; give the same "
            f"settings to go on, or continue it with other ones by --ckpt_path {path}, or {another_id(source)}."
        )


@rank_zero_only
def print_continued(run: RunFolder, step: int) -> None:
    """Prints that the command goes on with a run that exists."""
    source, run_id = given_id()
    print(f"{source} is {run_id!r}: going on with {as_typed(run.path)} after step {step}", file=sys.stderr)


def another_id(source: str) -> str:
    """Returns what to do for a new run."""
    return f"{'unset' if source == 'WANDB_RUN_ID' else 'set'} WANDB_RUN_ID for a new run"
