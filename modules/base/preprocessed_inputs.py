"""Refuses images that no data module has preprocessed, in a sentence instead of torch's error about dtypes.

A loader returns images as uint8, and the data module preprocesses them on the device, in a hook that Lightning calls
only if the trainer was given the data module.
"""

from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError


def refuse_unprocessed(module: nn.Module, inputs: Any) -> None:
    """Raises if `inputs` are uint8 and the module does not take pixels.

    Args:
        module: Module that got the inputs; `takes_pixels` says that it takes uint8.
        inputs: Inputs of a batch; only a tensor is checked.

    Raises:
        ValueError: If the inputs are uint8.
    """
    if isinstance(inputs, Tensor) and inputs.dtype == torch.uint8 and not getattr(module, "takes_pixels", False):
        raise UserError(
            f"{type(module).__name__} got images as uint8, which are not preprocessed; give the trainer the data "
            "module instead of its loaders, as in trainer.fit(model, data), pass each batch of a loop through "
            "data.on_after_batch_transfer(batch, 0), or choose a preprocessing other than pixels."
        )


def before_forward(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Forward pre-hook that calls `refuse_unprocessed` for the first argument of `forward`."""
    if inputs:
        refuse_unprocessed(module, inputs[0])
