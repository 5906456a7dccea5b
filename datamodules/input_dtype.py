"""Inputs in the dtype of the run: float64 with the precision 64-true, bfloat16 with bf16-true.

Lightning converts a batch as it comes from the loader, and leaves images that are still uint8 then as they are.
"""

import lightning as L
from torch import Tensor


def to_input_dtype(trainer: L.Trainer | None, inputs: Tensor) -> Tensor:
    """Converts floating-point inputs to the trainer's dtype; integers, and inputs without a trainer, stay as given."""
    if trainer is None:
        return inputs
    converted: Tensor = trainer.precision_plugin.convert_input(inputs)
    return converted
