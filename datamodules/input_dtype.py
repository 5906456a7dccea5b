"""Inputs in the number format of the run: float64 under `--trainer.precision 64-true`, bfloat16 under bf16-true.

Lightning converts a batch as it comes from the loader, when its images are uint8 still and left alone.
"""

import lightning as L
from torch import Tensor


def in_format_of(trainer: L.Trainer | None, inputs: Tensor) -> Tensor:
    """Floating-point inputs in the trainer's format; integers, and inputs without a trainer, as they are."""
    if trainer is None:
        return inputs
    converted: Tensor = trainer.precision_plugin.convert_input(inputs)
    return converted
