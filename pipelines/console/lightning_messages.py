"""Prints what callbacks and profilers of Lightning report because the user asked for it; its other messages are silent.

Lightning logs a profile, a model summary and what `verbose` turns on at the level of its routine messages.
"""

import logging

_ROUTINE = "lightning.pytorch.utilities.rank_zero"  # logger of messages that only rank 0 logs, from anywhere
_ASKED_FOR = ("lightning.pytorch.callbacks", "lightning.pytorch.profilers")


class _Printer(logging.Handler):
    """Prints records that come from a callback or a profiler."""

    def emit(self, record: logging.LogRecord) -> None:
        if any(name.replace(".", "/") in record.pathname for name in _ASKED_FOR) or record.levelno > logging.INFO:
            print(record.getMessage().strip("\n").removesuffix(" Signaling Trainer to stop."))


def show_reports() -> None:
    """Silences Lightning's routine messages, and prints reports of callbacks and profilers on standard output."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in (_ROUTINE, *_ASKED_FOR):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers = [_Printer()]
