"""Early termination of a sweep's poor trials (early stopping of runs): hyperband, as `early_terminate` describes it.

W&B has no other type, such as median pruning. After r, r·η, r·η², … values of the metric (r: `min_iter`, or derived
from `max_iter` and `s`), a trial is stopped unless it is among the best 1/η of the trials that have come as far: one
bracket of hyperband, asynchronous (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020,
arXiv 1810.05934).

Keys: https://docs.wandb.ai/models/sweeps/sweep-config-keys#early_terminate
"""

from dataclasses import dataclass
from typing import Any

from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner

from common.errors import UserError

_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
_EXAMPLE = "write early_terminate: {type: hyperband, min_iter: 3}"


@dataclass(frozen=True)
class EarlyTermination:
    """When the trials of a sweep are compared.

    Attributes:
        first: Number of values of the metric after which a trial is compared for the first time, ≥ 1.
        eta: Reduction factor η: the best 1/η of the trials continue, ≥ 2.
        last: Number of values from which on a trial is not compared any more; None for no such number.
    """

    first: int
    eta: int
    last: int | None = None

    def compares(self, count: int) -> bool:
        """Returns whether a trial with so many values may still be stopped."""
        return self.last is None or count < self.last


def pruner(early_termination: EarlyTermination | None) -> BasePruner:
    """Returns Optuna's pruner, which decides whether a trial is stopped."""
    if early_termination is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=early_termination.first, reduction_factor=early_termination.eta)


def read_early_termination(content: Any) -> EarlyTermination | None:
    """Reads the value of `early_terminate`; None if there is none.

    Raises:
        ValueError: If it is not of the type hyperband, or a key is missing, unknown or out of range.
    """
    if content is None:
        return None
    if not isinstance(content, dict):
        raise UserError(f"early_terminate is {content!r}; {_EXAMPLE}.")
    if content.get("type") != "hyperband":
        raise UserError("early_terminate is not of type hyperband, the only type; give type: hyperband.")
    for key in content:
        if key not in _KEYS:
            raise UserError(f"early_terminate has the unknown key {key!r}; give only {', '.join(_KEYS)}.")
    numbers = {key: content[key] for key in ("min_iter", "max_iter", "s", "eta") if content.get(key) is not None}
    for key, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise UserError(f"early_terminate has {key} {number!r}; it must be a whole number, at least 1.")
    eta = numbers.get("eta", 3)
    if eta < 2:
        raise UserError(f"early_terminate has eta {eta}; it must be at least 2.")
    largest = numbers.get("max_iter")
    if "min_iter" in numbers:
        if largest is not None and largest <= numbers["min_iter"]:
            raise UserError(f"early_terminate has max_iter {largest}; it must be greater than min_iter.")
        return EarlyTermination(numbers["min_iter"], eta, largest)
    if largest is not None and "s" in numbers:
        return EarlyTermination(max(1, round(largest / eta ** numbers["s"])), eta, largest)
    raise UserError("early_terminate has neither min_iter nor both max_iter and s; give one of these.")
