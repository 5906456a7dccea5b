"""Infers from a metric's name whether smaller or larger values are better."""

import re
from typing import Literal

_SMALLER_IS_BETTER = {"loss", "error", "perplexity", "fid", "kl", "seconds"}
_LARGER_IS_BETTER = {"accuracy", "acc", "bleu", "cider", "rouge", "confidence"}


def known_mode(metric: str) -> Literal["min", "max"] | None:
    """Returns the mode of a metric such as `val/loss` or `val/accuracy`; None if the words of its name do not tell."""
    words = set(re.split(r"[^a-z]+", metric.lower()))
    if words & _LARGER_IS_BETTER:
        return "max"
    return "min" if words & _SMALLER_IS_BETTER else None
