"""A learning rate that grows with the global batch, so that one setting serves any number of devices.

    linear    η B / 256          each step does the work of B / 256 small ones (P. Goyal et al., arXiv 1706.02677)
    sqrt      η √(B / 256)       the noise of a step stays the same (A. Krizhevsky, arXiv 1404.5997, section 5); with
                                 few epochs or small batches the better one for SimCLR (arXiv 2002.05709, B.1)

B is the number of images in one step of the optimizer: those of all processes and of all batches that accumulate.
"""

from typing import Any, Literal, get_args

from common.errors import UserError

Scaling = Literal["none", "linear", "sqrt"]

_BATCH = 256  # for which the learning rate is given


def check_scaling(rule: str) -> None:
    """Refuses an unknown rule.

    Raises:
        ValueError: none of the rules above.
    """
    if rule not in get_args(Scaling):
        raise UserError(f"lr_scaling is {rule!r}; give one of {', '.join(get_args(Scaling))}.")


def scale_learning_rates(trainer: Any, rule: Scaling) -> None:
    """Scales the learning rates of a run before it begins. A run that is resumed takes its own from the checkpoint.

    Raises:
        ValueError: the trainer's data does not say its batch size.
    """
    if rule == "none":
        return
    size = getattr(trainer.datamodule, "batch_size", None)
    if size is None:
        raise UserError(
            f"lr_scaling is {rule}, but the data does not say its batch_size; train on a data module, or give none."
        )
    share = size * trainer.world_size * trainer.accumulate_grad_batches / _BATCH
    factor = share if rule == "linear" else share**0.5
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] *= factor
            if "initial_lr" in group:  # where a schedule has noted it
                group["initial_lr"] *= factor
    for config in trainer.lr_scheduler_configs:
        if hasattr(config.scheduler, "base_lrs"):
            config.scheduler.base_lrs = [rate * factor for rate in config.scheduler.base_lrs]
