"""Learning rate scaling with the global batch size, so that one setting serves any number of devices.

    linear    η B / 256          one step replaces B / 256 steps of 256 (P. Goyal et al., arXiv 1706.02677)
    sqrt      η √(B / 256)       keeps the gradient noise of a step (A. Krizhevsky, arXiv 1404.5997, section 5); better
                                 for SimCLR with few epochs or small batches (arXiv 2002.05709, B.1)

B is the number of images in one optimizer step, over all processes and accumulated batches.
"""

from typing import Any, Literal, get_args

from common.errors import UserError
from common.ranges import check_range

Scaling = Literal["none", "linear", "sqrt"]

_BATCH = 256  # batch size for which the learning rate is given


def check_scaling(rule: str) -> None:
    """Refuses an unknown rule.

    Raises:
        ValueError: If the rule is none of those above.
    """
    check_range("lr_scaling", repr(rule), rule in get_args(Scaling), f"one of {', '.join(get_args(Scaling))}")


def scale_learning_rates(trainer: Any, rule: Scaling) -> None:
    """Scales the learning rates of a run before training; a resumed run restores its own from the checkpoint.

    Raises:
        ValueError: If the trainer's data module has no `batch_size`.
    """
    if rule == "none":
        return
    size = getattr(trainer.datamodule, "batch_size", None)
    if size is None:
        raise UserError(
            f"lr_scaling is {rule}, but the data has no batch_size; train on a data module, or set lr_scaling to none."
        )
    ratio = size * trainer.world_size * trainer.accumulate_grad_batches / _BATCH
    factor = ratio if rule == "linear" else ratio**0.5
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] *= factor
            if "initial_lr" in group:  # set by a schedule
                group["initial_lr"] *= factor
    for config in trainer.lr_scheduler_configs:
        if hasattr(config.scheduler, "base_lrs"):
            config.scheduler.base_lrs = [rate * factor for rate in config.scheduler.base_lrs]
