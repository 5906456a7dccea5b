"""Precision of a run: mixed precision falls back to float32 on CPUs where it is slower."""

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer

from common.machine.dtype_support import check_precision, mixed_precision

_OPTION = "--trainer.precision"
_MIXED = {"16": "16-mixed", "16-mixed": "16-mixed", "bf16": "bf16-mixed", "bf16-mixed": "bf16-mixed"}


def choose_precision(trainer: Namespace, arguments: list[str]) -> str | None:
    """Replaces a configuration's mixed precision by one that is fast on this CPU.

    Args:
        trainer: Settings of the Trainer; `precision` is changed in place, so that config.yaml and W&B record
            the precision used, and a resumed run keeps it.
        arguments: Command line; a precision given there is kept.

    Returns:
        A sentence that says what was changed and why, or None.
    """
    mixed = _MIXED.get(str(trainer.precision))
    explicit = any(argument.partition("=")[0] == _OPTION for argument in arguments)
    if mixed is None or explicit or not _on_cpu(trainer.accelerator):
        return None
    fast = mixed_precision(torch.device("cpu"))
    if fast == mixed:
        return None
    trainer.precision = fast
    lacking = "float16" if mixed == "16-mixed" else "bfloat16 instructions"
    return f"{fast}, since this CPU has no {lacking} and {mixed} would be many times slower; {_OPTION} overrides this."


def _on_cpu(accelerator: object) -> bool:
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())


class PrecisionCheck(Callback):
    """Refuses a precision that the device can only emulate, once each process has its device.

    Args:
        precision: Precision in the configuration; Lightning itself replaces float16 on a CPU.
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks the precision before anything is computed.

        Raises:
            ValueError: If it is bfloat16 on a GPU without it, or float16 on a CPU.
        """
        check_precision(self.precision, trainer.strategy.root_device)
