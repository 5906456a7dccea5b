"""What the checks of `sanity.py` and `caption_sanity.py` share: the model as they see it, and what they find.

Shapes: B images in a batch, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor, nn

Split = tuple[Tensor, Tensor]  # images (N, ...), labels (N,) int64
Report = Callable[[str], None]  # told how far a long check is


@runtime_checkable
class SanityCheckable(Protocol):
    """What the checks ask of a model; `modules.Classifier` has all of it."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, K) and labels (B,) to a scalar."""

    def expected_initial_loss(self) -> float | None:
        """What `loss` should be before training, without regularization; None if nothing is known."""

    def training_step(self, batch: Split, batch_idx: int) -> Any:
        """The loss that training minimizes, or a mapping with it as `loss`."""

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, ...) to logits (B, K)."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def double(self) -> Self: ...

    def train(self, mode: bool = True) -> Self: ...


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        name: of the check.
        passed: None if there was nothing to check.
        figures: the numbers behind it, in words.
    """

    name: str
    passed: bool | None
    figures: str


def without_regularization(model: SanityCheckable) -> SanityCheckable:
    """A copy of a model in training mode that neither penalizes its weights (`reg`) nor drops anything out."""
    copy = deepcopy(model).train()
    if hasattr(copy, "reg"):
        copy.reg = 0.0
    for layer in copy.modules():
        # `p` in torch's dropout layers, `dropout` in its LSTM and attention, `drop_prob` in timm's DropPath.
        for name in ("p",) if isinstance(layer, nn.modules.dropout._DropoutNd) else ("dropout", "drop_prob"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.0)
    return copy


def training_loss(model: SanityCheckable, batch: Split) -> Tensor:
    """What `training_step` returns, as the scalar that training minimizes."""
    output = model.training_step(batch, 0)
    loss: Tensor = output["loss"] if isinstance(output, Mapping) else output
    return loss
