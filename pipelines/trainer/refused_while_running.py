"""Turns what Lightning refuses only while a run begins or goes on into one sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer

from common.errors import UserError
from pipelines.console.errors import find_user_error, out_of_memory, refused_by_lightning


@contextmanager
def refused_while_running(trainer: Trainer) -> Iterator[None]:
    """Raises a UserError for a setting that Lightning refuses, and for memory that is not there.

    Args:
        trainer: Trainer of the run.
    """
    try:
        yield
    except Exception as error:
        reason = None if find_user_error(error) else refused_by_lightning(error) or out_of_memory(error)
        if reason is None:
            raise
        if trainer.overfit_batches:  # type: ignore[attr-defined]  # which sets the other two
            reason = re.sub("limit_(train|val)_batches", "overfit_batches", reason)
        raise UserError(reason) from error
