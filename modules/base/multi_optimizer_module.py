"""Several optimizers, each with several steps in an iteration, of which one advances `global_step`.

Lightning counts every step of every optimizer, so that a pair of networks would reach `max_steps` after half the
batches, and its metrics would have another x axis than those of all other topics. Here each step states whether it
counts; one in an iteration does.

Several processes compute what one process would compute from the whole batch: gradients are averaged, and random
numbers are drawn for all ranks by generators in the same state, of which each rank takes its part.

Shapes: N samples of this process.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from modules.base.buffered_metrics import BufferedMetrics


class MultiOptimizerModule(BufferedMetrics):
    """A LightningModule with manual optimization in which each optimizer step states whether it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def setup(self, stage: str) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, DDPStrategy):  # a backward pass reaches one network, and DDP would wait for the others
            strategy._ddp_kwargs["find_unused_parameters"] = True

    def on_train_start(self) -> None:
        super().on_train_start()
        # Lightning reseeds when it sets up several processes, but not for one; with this, both draw the same numbers,
        # other ones than those of the initial weights. A resumed run restores its generators after this.
        torch.manual_seed(torch.initial_seed() ^ 1)

    def take_step(self, optimizer: LightningOptimizer, loss: Tensor, counts: bool = False) -> None:
        """Takes an optimizer step on a scalar loss; `global_step` advances only if the step counts."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        if counts:
            optimizer.step()
        else:  # what Lightning's wrapper does, without counting
            self.trainer.strategy.optimizer_step(optimizer.optimizer, closure=lambda: None)

    def draw(self, distribution: Callable[..., Tensor], number: int, *shape: int) -> Tensor:
        """Returns this rank's part (N, …) of numbers that torch.randn, torch.rand or the like draws for all ranks."""
        distributed = dist.is_available() and dist.is_initialized()
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        numbers = distribution(world_size * number, *shape, device=self.device)
        return numbers[rank * number : (rank + 1) * number]
