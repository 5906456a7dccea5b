"""Histograms of weights, gradients and activations of each layer, in training.

They show what a loss curve hides: activations that shrink or grow from layer to layer (a bad initialization), ReLUs
that output nothing but 0, gradients that vanish in the first layers, weights that no longer change.

Source: https://cs231n.github.io/neural-networks-3/#actdist

Shapes: B bins.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from callbacks.histogram_picture import LayerHistograms, draw_histograms
from callbacks.media import Histogram, log_histograms
from callbacks.pictures import show
from common.errors import UserError
from common.ranges import check_range


class Histograms(Callback):
    """Draws and logs histograms of weights, gradients and activations, at the first step and at the end of epochs.

    They are those of one training step: weights before it, gradients before any clipping, and outputs of layers with
    weights and of nonlinearities for the images of that step (with several processes, for those of the first). All
    other steps cost nothing. The picture is `pictures/histograms`; the loggers get `weights/LAYER`,
    `gradients/LAYER` and `activations/LAYER`. A compiled network has no activations.

    Args:
        every_n_epochs: Number of epochs between two pictures, ≥ 1.
        bins: Number of bins, in [1, 512].

    Raises:
        ValueError: If a value is out of its range, or the model has no layers to show.
    """

    watches_layers = True  # read by pipelines/packs: a stack of models computes without their own layers

    def __init__(self, every_n_epochs: int = 5, bins: int = 64) -> None:
        check_range("every_n_epochs", every_n_epochs, every_n_epochs >= 1, "at least 1")
        check_range("bins", bins, 1 <= bins <= 512, "in [1, 512]")
        self.every_n_epochs = every_n_epochs
        self.bins = bins
        self._hooks: ExitStack | None = None  # of the layers, while a step is measured
        self._layers: dict[str, LayerHistograms] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not any(True for _ in _layers(pl_module)):
            raise UserError(
                f"{type(pl_module).__name__} has no layers with weights; remove callbacks.Histograms from "
                "trainer.callbacks."
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._hooks is None and self._is_due(trainer):
            self._layers = {name: LayerHistograms(type(layer).__name__) for name, layer in _layers(pl_module)}
            self._hooks = ExitStack()
            for name, layer in _layers(pl_module):
                self._hooks.callback(layer.register_forward_hook(self._hook(self._layers[name])).remove)

    def _is_due(self, trainer: Trainer) -> bool:
        loops: Any = trainer  # some of its attributes are unknown to mypy
        epoch = trainer.current_epoch + 1
        last = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        return trainer.global_step == 0 or (last and loops.is_last_batch)

    def _hook(self, histograms: LayerHistograms) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            values = output[0] if isinstance(output, tuple) else output  # of a recurrent layer
            if isinstance(values, Tensor) and values.is_floating_point():
                histograms.activations = histogram(values, self.bins)

        return keep

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self._hooks is None:
            return
        stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for name, layer in _layers(pl_module):
            for parameter_name, parameter in _weights(layer):
                if id(parameter) in stepped and parameter.grad is not None:
                    key = parameter_name.removeprefix("weight").lstrip("_")
                    self._layers[name].weights[key] = histogram(parameter, self.bins)
                    self._layers[name].gradients[key] = histogram(parameter.grad, self.bins)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._hooks is None or not any(of_layer.gradients for of_layer in self._layers.values()):
            return  # while gradients accumulate, the step comes with a later batch
        self._remove_hooks()
        title = f"{type(pl_module).__name__}, step {trainer.global_step}"
        show(trainer, "histograms", draw_histograms(self._layers, title), caption=title)
        log_histograms(trainer, dict(_named(self._layers)))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._remove_hooks()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._remove_hooks()

    def _remove_hooks(self) -> None:
        if self._hooks is not None:
            self._hooks.close()
            self._hooks = None


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields the layers that have weight matrices or filters, and the nonlinearities, in order of definition."""
    for name, layer in model.named_modules():
        is_nonlinearity = type(layer).__module__ == "torch.nn.modules.activation" and not list(layer.children())
        if name and (is_nonlinearity or any(True for _ in _weights(layer))):
            yield name, layer


def _weights(layer: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields the layer's own parameters of at least two dimensions; biases and scales have too few values."""
    return ((name, parameter) for name, parameter in layer.named_parameters(recurse=False) if parameter.ndim >= 2)


def _named(layers: dict[str, LayerHistograms]) -> Iterator[tuple[str, Histogram]]:
    for name, of_layer in layers.items():
        for kind in ("weights", "gradients"):
            for key, values in getattr(of_layer, kind).items():
                if values is not None:
                    yield f"{kind}/{name}{'.' if key else ''}{key}", values
        if of_layer.activations is not None:
            yield f"activations/{name}", of_layer.activations


@torch.no_grad()
def histogram(values: Tensor, bins: int) -> Histogram | None:
    """Returns the histogram of a tensor's finite values; None if it has none."""
    finite = values.detach().float().flatten()
    if not bool(finite.isfinite().all()):
        finite = finite[finite.isfinite()]
    if not finite.numel():
        return None
    low, high = (float(end) for end in finite.aminmax())
    if low == high:  # one bin around the value
        low, high = low - 0.5, high + 0.5
    counts = finite.histc(bins, low, high).cpu().numpy().astype(np.int64)
    zeros = float((finite == 0).float().mean())
    return Histogram(
        counts, np.linspace(low, high, bins + 1), float(finite.mean()), float(finite.std(unbiased=False)), zeros
    )
