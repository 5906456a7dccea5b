"""Keeps a split in the memory of the GPU that trains on it, if there is room: its batches then need no transfer."""

import lightning as L
from torch import Tensor, cuda

_SHARE_OF_FREE_MEMORY = 0.25  # the rest is for the model, its gradients and activations


def on_training_device(
    trainer: L.Trainer | None, split: tuple[Tensor, Tensor], copies: int = 1
) -> tuple[Tensor, Tensor]:
    """Moves a split to the training device if that is a GPU with room for it, or returns it as given.

    Args:
        trainer: Trainer with the device; None leaves the split where it is.
        split: Inputs and labels of the split.
        copies: Number of copies of the inputs that will lie on the device.
    """
    if trainer is None or trainer.strategy.root_device.type != "cuda":
        return split
    device = trainer.strategy.root_device
    free, _ = cuda.mem_get_info(device)
    if copies * split[0].nbytes > _SHARE_OF_FREE_MEMORY * free:
        return split
    return split[0].to(device), split[1].to(device)
