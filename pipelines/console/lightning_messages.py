"""Silences messages of Lightning and torch, but for what callbacks and profilers report because the user asked for it.

Lightning logs a profile, a model summary and what `verbose` turns on at the level of its routine messages.
"""

import logging
import os
import sys
import warnings

_ROUTINE = "lightning.pytorch.utilities.rank_zero"  # logger of messages that only rank 0 logs, from anywhere
_ASKED_FOR = ("lightning.pytorch.callbacks", "lightning.pytorch.profilers")


class _Printer(logging.Handler):
    """Prints records that come from a callback or a profiler."""

    def emit(self, record: logging.LogRecord) -> None:
        if any(name.replace(".", "/") in record.pathname for name in _ASKED_FOR) or record.levelno > logging.INFO:
            print(record.getMessage().strip("\n").removesuffix(" Signaling Trainer to stop."))


def quiet() -> None:
    """Silences messages of Lightning and torch that a user can't act on; other warnings take one line each."""
    line_start = "\r\x1b[K" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else ""  # not behind a bar
    warnings.formatwarning = lambda message, *_, **__: f"{line_start}warning: {message}\n"  # without the line of code
    _show_reports()
    warnings.filterwarnings("ignore", module=r"lightning\.", category=UserWarning)
    warnings.filterwarnings("ignore", module=r"lightning\.", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    warnings.filterwarnings("ignore", message=".*was not registered.*", category=UserWarning)
    # Of StochasticWeightAveraging and ModelPruning, which are refused right after.
    warnings.filterwarnings("ignore", message=r"\s*Unable to serialize instance (cpu|\w+structured)")


def _show_reports() -> None:
    """Silences Lightning's routine messages, and prints reports of callbacks and profilers on standard output."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in (_ROUTINE, *_ASKED_FOR):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers = [_Printer()]
