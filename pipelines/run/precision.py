"""The precision of a run: topics ask for half precision because it is faster, and not on every device it is."""

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer

from common.dtype_support import check_precision, mixed_precision

_OPTION = "--trainer.precision"
_MIXED = {"16": "16-mixed", "16-mixed": "16-mixed", "bf16": "bf16-mixed", "bf16-mixed": "bf16-mixed"}


def settle_precision(trainer: Namespace, arguments: list[str]) -> str | None:
    """Changes a configuration's mixed precision to one that the CPU is fast in.

    Args:
        trainer: the settings of the Trainer; `precision` is changed, so that the run's folder and its page in W&B tell
            what the run computed in, and a run goes on as it began.
        arguments: the command line; a precision given there is left as it is.

    Returns:
        What was changed and why, in a sentence; None if nothing was.
    """
    wanted = _MIXED.get(str(trainer.precision))
    asked = any(argument.partition("=")[0] == _OPTION for argument in arguments)
    if wanted is None or asked or not _on_cpu(trainer.accelerator):
        return None
    fast = mixed_precision(torch.device("cpu"))
    if fast == wanted:
        return None
    trainer.precision = fast
    lacking = "float16" if wanted == "16-mixed" else "bfloat16 instructions"
    return f"{fast}, since this CPU has no {lacking} and {wanted} would be many times slower; {_OPTION} decides."


def _on_cpu(accelerator: object) -> bool:
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())


class PrecisionCheck(Callback):
    """Refuses a precision that the device can only imitate, once each process has its device.

    Args:
        precision: as it was asked for; Lightning takes another one by itself for float16 on a CPU.
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Looks at it before anything is computed.

        Raises:
            ValueError: bfloat16 on a GPU without it, or float16 on a CPU.
        """
        check_precision(self.precision, trainer.strategy.root_device)
