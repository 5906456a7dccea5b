"""Several optimizers and several steps of each in one iteration, which counts as one step of the run.

Lightning counts every step of every optimizer that it hands out, so that a pair of networks would reach `max_steps`
after half the batches, and its checkpoints and plots would lie on another axis than those of all other topics. Here a
step says whether it counts; one in an iteration does.

With several processes an iteration is what one process would make of the whole batch: gradients are averaged, and
random numbers are drawn for all processes by generators that are in the same state on all, each taking its share.

Shapes: N samples of this process.
"""

from collections.abc import Callable

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from modules.base.buffered_metrics import BufferedMetrics


class MultiOptimizerModule(BufferedMetrics):
    """A module that takes its optimizer steps by itself and says which of them counts."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def setup(self, stage: str) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, DDPStrategy):  # a backward pass is of one network, and DDP would wait for the others
            strategy._ddp_kwargs["find_unused_parameters"] = True

    def on_train_start(self) -> None:
        super().on_train_start()
        # Lightning seeds anew when it sets up several processes, but not for one; this lets both begin with the same
        # numbers, which are not those that weights were drawn from. A resumed run gets its state back after this.
        torch.manual_seed(torch.initial_seed() ^ 1)

    def take_step(self, optimizer: LightningOptimizer, loss: Tensor, counts: bool = False) -> None:
        """One step of an optimizer down a loss, a scalar; the run's `global_step` goes on by one only if it counts."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        if counts:
            optimizer.step()
        else:  # what Lightning's wrapper does, but for the counting
            self.trainer.strategy.optimizer_step(optimizer.optimizer, closure=lambda: None)

    def draw(self, distribution: Callable[..., Tensor], number: int, *shape: int) -> Tensor:
        """This process's share (N, …) of the numbers that torch.randn, torch.rand or the like draws for all."""
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        drawn = distribution(world_size * number, *shape, device=self.device)
        return drawn[rank * number : (rank + 1) * number]
