"""The training step of a model as a function that counts nothing and draws nothing, for `torch.func`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from modules.base.buffered_metrics import BufferedMetrics
from pipelines.packs.shared_product import use_shared_products


@dataclass(frozen=True)
class MemberStep:
    """Result of the training step of one model.

    Attributes:
        loss: The loss, a scalar.
        number: Number of samples or words that the sums are over.
        sums: Metrics of the batch by name, each summed, a scalar; those that `count_training_batch` was called with.
        gradients: Gradient of each parameter of the model, in the order of `parameters()`.
    """

    loss: Tensor
    number: int | Tensor
    sums: dict[str, Tensor]
    gradients: tuple[Tensor, ...]


class StepFunction(nn.Module):
    """Calls the `training_step` of a model as a pure function: metrics are returned instead of counted.

    Args:
        model: The model.
    """

    def __init__(self, model: BufferedMetrics) -> None:
        super().__init__()
        self.model = model
        self.number: int | Tensor = 0
        self._sums: dict[str, Tensor] = {}

    def forward(self, batch: Any, index: int) -> Tensor:
        """Returns the loss of a batch."""
        result = self.model.training_step(batch, index)
        loss: Tensor = result if isinstance(result, Tensor) else result["loss"]  # type: ignore[index]
        return loss

    def counted(self) -> dict[str, Tensor]:
        """Returns the metrics of the last step."""
        return self._sums

    @contextmanager
    def given(self, numbers: dict[str, Tensor], masks: list[Tensor]) -> Iterator[None]:
        """Sets what differs between the models of a stack while a step is computed."""
        model: Any = self.model
        own = {name: getattr(model, name) for name in numbers}
        for name, number in numbers.items():
            setattr(model, name, number)
        model.count_training_batch = self._count
        changed: list[Any] = [module for module in model.modules() if type(module) is nn.Linear]
        for layer in changed:
            use_shared_products(layer)
        for dropout, mask in zip([m for m in model.modules() if isinstance(m, nn.Dropout)], masks, strict=False):
            dropout.forward = _multiply_by(mask)  # type: ignore[method-assign, assignment]
            changed.append(dropout)
        try:
            yield
        finally:
            del model.count_training_batch
            for name, value in own.items():
                setattr(model, name, value)
            for module in changed:
                del module.forward

    def _count(self, number: int | Tensor, **sums: Tensor) -> None:
        self.number, self._sums = number, {name: total.detach() for name, total in sums.items()}


def _multiply_by(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda inputs: inputs * mask
