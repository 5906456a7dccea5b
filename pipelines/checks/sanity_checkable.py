"""Interface of a model that can be checked before training, and the result of a check.

Shapes: B images in a batch, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor, nn

Split = tuple[Tensor, Tensor]  # images (N, ...), labels (N,) int64
Report = Callable[[str], None]  # called with the progress of a check


@runtime_checkable
class SanityCheckable(Protocol):
    """A model that the checks can run on, such as every `modules.Classifier`."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the scalar loss of logits (B, K) and labels (B,)."""

    def expected_initial_loss(self) -> float | None:
        """Returns the `loss` expected before training, without regularization; None if it is unknown."""

    def training_step(self, batch: Split, batch_idx: int) -> Any:
        """Returns the training loss, or a mapping with the key `loss`."""

    def __call__(self, images: Tensor) -> Tensor:
        """Returns the logits (B, K) of images (B, ...)."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def double(self) -> Self: ...

    def train(self, mode: bool = True) -> Self: ...


@dataclass(frozen=True)
class Result:
    """Result of one check.

    Attributes:
        name: Name of the check.
        passed: Whether it passed; None if there was nothing to check.
        figures: The measured values and limits, as text.
    """

    name: str
    passed: bool | None
    figures: str


def without_regularization(model: SanityCheckable) -> SanityCheckable:
    """Returns a copy of a model in training mode, without weight penalty (`reg`), label smoothing and dropout."""
    copy = deepcopy(model).train()
    for name in ("reg", "label_smoothing"):
        if hasattr(copy, name):
            setattr(copy, name, 0.0)
    for layer in copy.modules():
        # `p` in torch's dropout layers, `dropout` in its LSTM and attention, `drop_prob` in timm's DropPath.
        for name in ("p",) if isinstance(layer, nn.modules.dropout._DropoutNd) else ("dropout", "drop_prob"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.0)
    return copy


def training_loss(model: SanityCheckable, batch: Split) -> Tensor:
    """Returns the scalar loss of `training_step`."""
    output = model.training_step(batch, 0)
    loss: Tensor = output["loss"] if isinstance(output, Mapping) else output
    return loss
