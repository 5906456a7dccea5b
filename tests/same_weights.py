"""A callback that asks at the end of a training whether all processes hold the same weights, for tests of DDP."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SameWeights(Callback):
    """Fails the run if a parameter differs between processes."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, parameter in pl_module.named_parameters():
            everyone = trainer.strategy.all_gather(parameter.detach().clone())
            assert len(everyone) == trainer.world_size > 1
            assert all(torch.equal(everyone[0], other) for other in everyone), name
