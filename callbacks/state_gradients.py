"""Measures how far the gradient of a recurrent network reaches back: the norm of ∂L/∂h_t over the time steps t.

    L_all    mean loss of a caption's words       at each h_t, later words and the next one add up
    L_last   loss of its last word, END           one path back through all steps, so that it shows the decay alone

Through a step of a vanilla RNN, ∂L/∂h_{t−1} = W_hᵀ (tanh′(a_t) ⊙ ∂L/∂h_t): over T steps the norm shrinks or grows about
exponentially, and the network can't learn what depends on its first states, or its steps explode. Along the cells of an
LSTM the gradient is multiplied by the forget gate alone, which can be near 1. `state_gradients/h_ratio` condenses it:

    ratio = geometric mean over captions of ‖∂L_last/∂h_0‖ / ‖∂L_last/∂h_T‖

and `state_gradients/c_ratio` is that of an LSTM's cells. Much less than 1 is vanishing, much more exploding.

Sources: Y. Bengio, P. Simard, P. Frasconi, IEEE Transactions on Neural Networks 5(2), 1994; R. Pascanu, T. Mikolov,
Y. Bengio, arXiv 1211.5063; https://cs231n.github.io/rnn/

Shapes: S states of a step (h, or h and c), B captions, T words, D width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import figure_to_array, show
from common.errors import UserError
from common.ranges import check_range
from common.vocabulary import PAD
from modules.interpretation.feature_extraction import evaluating

_COLORS = {"h": "tab:blue", "c": "tab:orange"}
_SMALLEST = 1e-300  # of a divisor


@runtime_checkable
class RecurrentCaptioner(Protocol):
    """A captioner whose decoder passes states (B, D) from word to word."""

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the S states, the output's first."""

    def encode(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Encodes inputs (B, ...)."""

    def start(self, memory: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns the S states before the first word."""

    def step(
        self, words: Tensor, state: tuple[Tensor, ...], memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Reads one word (B,) of each caption: logits (B, V) of the next, and the new states."""


class GradientNorms(NamedTuple):
    """Norms of the gradients of B losses with respect to the states of their captions, (S, B, T + 1) each.

    Attributes:
        of_all: Norms for the mean loss of a caption's words.
        of_last: Norms for the loss of its last word.
        lengths: Number of words of each caption, END included, (B,).
    """

    of_all: Tensor
    of_last: Tensor
    lengths: Tensor

    def over_time(self) -> Tensor:
        """Geometric means of `of_all` over the captions that have a word after the state at t: (S, T + 1)."""
        times = torch.arange(self.of_all.shape[2], device=self.lengths.device)
        return _geometric_means(self.of_all, times <= self.lengths[:, None])

    def back_from_last(self) -> Tensor:
        """Geometric means of `of_last` relative to the state that predicts END, k = 0 … T steps before it: (S, T + 1).

        All are relative to the norm of the first of the states, since cells have no gradient from outside.
        """
        steps = torch.arange(self.of_last.shape[2], device=self.lengths.device)
        times = self.lengths[:, None] - steps  # (B, T + 1)
        norms = self.of_last.gather(2, times.clamp(min=0).expand(len(self.of_last), -1, -1))
        return _geometric_means(norms / norms[:1, :, :1].clamp(min=_SMALLEST), times >= 0)

    def ratios(self) -> Tensor:
        """Geometric means over the captions of the norm at t = 0 relative to the one at the last state of h: (S,)."""
        last = self.of_last[0].gather(1, self.lengths[:, None])  # (B, 1)
        return _geometric_means(self.of_last[:, :, :1] / last.clamp(min=_SMALLEST), torch.ones_like(last) > 0)[:, 0]


def gradient_norms(model: RecurrentCaptioner, inputs: Tensor, words: Tensor) -> GradientNorms:
    """Returns the norms of the gradients at the states h_0 … h_T.

    Args:
        model: Captioner with S states; its parameters' gradients are left as they are.
        inputs: Inputs (B, ...).
        words: Ids of words (B, T + 1), from START to END and PAD.
    """
    targets = words[:, 1:]
    lengths = (targets != PAD).sum(1)
    # cuDNN computes gradients of recurrent layers in training mode only.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        memory = model.encode(inputs)
        state = model.start(memory)
        states, logits = [*state], []
        for word in words[:, :-1].unbind(1):
            scores, state = model.step(word, state, memory)
            states += state
            logits.append(scores.float())
        losses = F.cross_entropy(torch.stack(logits, 2), targets, ignore_index=PAD, reduction="none")  # (B, T)
        norms = []
        for loss in ((losses.sum(1) / lengths).sum(), losses.gather(1, lengths[:, None] - 1).sum()):
            gradients = torch.autograd.grad(loss, states, retain_graph=True, materialize_grads=True)
            parts = torch.stack([gradient.double().norm(dim=1) for gradient in gradients], 1)  # (B, S (T + 1))
            norms.append(parts.unflatten(1, (-1, len(state))).permute(2, 0, 1))
    return GradientNorms(norms[0].detach(), norms[1].detach(), lengths)


class StateGradients(Callback):
    """Draws ‖∂L/∂h_t‖ over t before training and after epochs, and logs `state_gradients/…_ratio` after each.

    All are measured in evaluation mode on the first captions of the run's first training batch.

    Args:
        num_captions: Number of captions, ≥ 1.
        every_n_epochs: Number of epochs between two pictures, ≥ 1.

    Raises:
        ValueError: If a value is out of its range or the model is not a recurrent captioner.
    """

    def __init__(self, num_captions: int = 64, every_n_epochs: int = 1) -> None:
        check_range("num_captions", num_captions, num_captions >= 1, "at least 1")
        check_range("every_n_epochs", every_n_epochs, every_n_epochs >= 1, "at least 1")
        self.num_captions = num_captions
        self.every_n_epochs = every_n_epochs
        self._batch: tuple[Tensor, Tensor] | None = None
        self._before: GradientNorms | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, RecurrentCaptioner):
            raise UserError(
                f"{type(pl_module).__name__} passes no states from word to word, so it has no gradients over time; "
                "remove callbacks.StateGradients from trainer.callbacks."
            )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that training logs; only an LSTM has cells c."""
        return ("state_gradients/h_ratio", "state_gradients/c_ratio")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._batch is None:
            self._batch = batch[0][: self.num_captions].clone(), batch[1][: self.num_captions].clone()
            self._before = self._measure(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._batch is None:  # resumed at the end of an epoch
            return
        assert self._before is not None and isinstance(pl_module, RecurrentCaptioner)
        norms, epoch, names = self._measure(pl_module), trainer.current_epoch + 1, pl_module.state_names
        ratios = dict(zip(names, norms.ratios().tolist(), strict=True))
        pl_module.log_dict({f"state_gradients/{name}_ratio": ratio for name, ratio in ratios.items()}, sync_dist=True)
        if epoch % self.every_n_epochs == 0 or trainer.should_stop or epoch == trainer.max_epochs:
            picture = state_gradient_picture(names, {"before training": self._before, f"after epoch {epoch}": norms})
            show(trainer, "state_gradients", picture, caption=f"gradients over time after epoch {epoch}")

    def _measure(self, pl_module: LightningModule) -> GradientNorms:
        assert self._batch is not None and isinstance(pl_module, RecurrentCaptioner)
        with evaluating(pl_module):
            return gradient_norms(pl_module, *self._batch)


def state_gradient_picture(names: Sequence[str], measured: dict[str, GradientNorms]) -> np.ndarray:
    """Draws norms over time, and of the last word's loss over the steps before it.

    Args:
        names: Names of the S states.
        measured: Norms by the time of their measurement; the last one is drawn solid, the others dotted.

    Returns:
        The picture, (height, width, 3) uint8.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.5, 3.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for label, norms in measured.items():
        line = "-" if label == list(measured)[-1] else ":"
        for axes, curves in ((left, norms.over_time()), (right, norms.back_from_last())):
            for name, values in zip(names, curves.cpu(), strict=True):
                style = {"color": _COLORS.get(name), "linestyle": line, "marker": ".", "label": f"{name}, {label}"}
                axes.plot(range(len(values)), values.numpy(), **style)
    left.set_title("loss of all words", fontsize=10)
    left.set_xlabel("words read, t")
    left.set_ylabel("norm of ∂L/∂state at t")
    right.set_title("loss of the last word alone", fontsize=10)
    right.set_xlabel("steps before the state that predicts the last word")
    right.set_ylabel("norm relative to h there")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure_to_array(figure)


def _geometric_means(values: Tensor, counted: Tensor) -> Tensor:
    """Geometric means over the captions that are counted, (B, N), of values (S, B, N) ≥ 0: (S, N), NaN without any.

    Zeros are left out: a caption's last cells are used by no later step.
    """
    positive = counted & (values > 0)
    return (values.where(positive, 1).log().sum(1) / positive.sum(1)).exp()
