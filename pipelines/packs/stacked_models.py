"""Training steps of N models of one architecture as one computation, by `torch.func.vmap` over their stacked weights.

    losses, gradients = vmap(grad_and_value(training_step))(weights of all models, batch)

Small models leave a core or a GPU nearly idle: reading the batch and calling each operation take longer than the
products. Stacked, the batch is read once and each operation is called once for all models. A model computes what it
would compute alone: its gradients, its running statistics, and on a CPU its dropout masks, which are drawn from the
state that the random number generator would have in a run of its own.

The weights of each model stay ordinary parameters of its module, as views of the stacked tensors, so that its own
optimizer, checkpoints and callbacks use them as always.

Source: https://docs.pytorch.org/tutorials/intermediate/ensembling.html

Shapes: N models, B samples in a batch.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from modules.base.buffered_metrics import BufferedMetrics
from pipelines.packs.step_comparison import difference, is_of_all_models
from pipelines.packs.step_function import MemberStep, StepFunction


def common_settings(model: nn.Module) -> dict[str, Any]:
    """Returns the settings in which all models of a stack must agree: all but the numbers in `stackable`."""
    stackable: frozenset[str] = getattr(type(model), "stackable", frozenset())
    settings = dict(getattr(model, "hparams", {}))
    return {name: value for name, value in settings.items() if name not in stackable}


class StackedModels:
    """N models whose training steps are computed together.

    Their parameters and buffers become views of stacked tensors, until `release`.

    Args:
        models: Models of one class that differ only in their weights and in the numbers in `stackable`.
    """

    def __init__(self, models: Sequence[BufferedMetrics]) -> None:
        self.models = list(models)
        self._template = StepFunction(self.models[0])
        self._parameters = self._stack("named_parameters")
        self._buffers = self._stack("named_buffers")
        self._dropouts = [module for module in self.models[0].modules() if isinstance(module, nn.Dropout)]
        self._probabilities = [
            [module.p for module in model.modules() if isinstance(module, nn.Dropout)] for model in self.models
        ]
        self._mask_shapes: dict[Any, list[tuple[torch.Size, torch.dtype]]] = {}  # by the shapes of a batch
        like = next(iter(self._parameters.values()))
        names = sorted(getattr(type(self.models[0]), "stackable", ()))
        values = {name: [getattr(model, name, None) for model in self.models] for name in names}
        self._numbers = {
            name: torch.tensor(of_models, dtype=like.dtype, device=like.device)
            for name, of_models in values.items()
            if len(set(of_models)) > 1 and all(isinstance(value, int | float) for value in of_models)
        }

    def refusal(self, batch: Any, index: int = 0) -> str | None:
        """Returns why the models' `training_step` can't be stacked, in a sentence, or None; changes nothing.

        `vmap` can't take each, and what a model computes may depend on a number that is not in `stackable`, such as
        one derived from it. So each model also takes the step by itself, and the results must agree.

        Args:
            batch: The batch, on the device of the models.
            index: Index of the batch in its epoch.
        """
        buffers = {name: tensor.clone() for name, tensor in self._buffers.items()}
        state = torch.get_rng_state()
        attributes = {module: copy.copy(vars(module)) for model in self.models for module in model.modules()}
        try:
            masks = self._masks(batch, [state] * len(self.models))
            steps = self._compute(batch, masks, index)
            kept = [name for module in attributes for name, value in vars(module).items() if is_of_all_models(value)]
            problem = f"its training step keeps {kept[0]}" if kept else None
            for name, tensor in buffers.items():
                self._buffers[name].copy_(tensor)
            for number, (model, step) in enumerate(zip(self.models, steps, strict=True)):
                problem = problem or difference(model, step, batch, [mask[number] for mask in masks], index)
        except Exception as error:  # of many kinds
            problem = str(error).strip().splitlines()[0]
        finally:
            torch.set_rng_state(state)
            for name, tensor in buffers.items():
                self._buffers[name].copy_(tensor)
            for module, before in attributes.items():
                vars(module).clear()
                vars(module).update(before)
        return None if problem is None else f"{type(self.models[0]).__name__} can't be stacked ({problem})"

    def step(self, batch: Any, random_states: list[Tensor], index: int = 0) -> list[MemberStep]:
        """Computes the training step of each model on a batch.

        Args:
            batch: The batch, on the device of the models.
            random_states: State of torch's random number generator for each model; replaced by the one after the step.
            index: Index of the batch in its epoch.

        Raises:
            RuntimeError: If `vmap` can't take what the models' `training_step` does.
        """
        return self._compute(batch, self._masks(batch, random_states), index)

    def _compute(self, batch: Any, masks: list[Tensor], index: int) -> list[MemberStep]:
        def loss_of(parameters: Any, buffers: Any, numbers: Any, masks: Any) -> tuple[Tensor, Any]:
            weights = {f"model.{name}": tensor for name, tensor in (parameters | buffers).items()}
            with self._template.given(numbers, masks):
                loss: Tensor = functional_call(self._template, weights, (batch, index))
            return loss, self._template.counted()

        gradients_of = vmap(grad_and_value(loss_of, has_aux=True), randomness="error")
        gradients, (losses, sums) = gradients_of(self._parameters, self._buffers, self._numbers, masks)
        number = self._template.number
        columns = zip(*(gradient.unbind() for gradient in gradients.values()), strict=True)
        of_sums = [
            dict(zip(sums, values, strict=True))
            for values in zip(*(total.unbind() for total in sums.values()), strict=True)
        ]
        return [
            MemberStep(loss, number, totals, column)
            for loss, totals, column in zip(losses.detach().unbind(), of_sums, columns, strict=True)
        ]

    def release(self) -> None:
        """Gives each model's parameters and buffers memory of their own again."""
        for model in self.models:
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.data = tensor.data.clone()

    def _stack(self, kind: str) -> dict[str, Tensor]:
        """Returns the parameters or buffers of all models by name, (N, …) each, and makes theirs views of these."""
        of_models = [dict(getattr(model, kind)()) for model in self.models]
        stacked = {}
        for name in of_models[0]:
            tensor = torch.stack([tensors[name].detach() for tensors in of_models])
            for tensors, view in zip(of_models, tensor.unbind(), strict=True):
                tensors[name].data = view
            stacked[name] = tensor
        return stacked

    def _masks(self, batch: Any, random_states: list[Tensor]) -> list[Tensor]:
        """Returns the factors of each dropout layer, (N, …) each: 0 for a dropped value, else 1 / (1 − p)."""
        if not any(p for probabilities in self._probabilities for p in probabilities):
            return []
        key = tuple(tensor.shape for tensor in batch if isinstance(tensor, Tensor))
        if key not in self._mask_shapes:
            self._mask_shapes[key] = self._shapes_at_dropouts(batch)
        shapes = self._mask_shapes[key]
        device = next(iter(self._parameters.values())).device
        masks = [torch.ones((len(self.models), *shape), dtype=dtype, device=device) for shape, dtype in shapes]
        if device.type != "cpu":  # one call for all models; a device's generator is not that of a run of its own
            for layer, mask in enumerate(masks):
                rates = torch.tensor([p[layer] for p in self._probabilities], dtype=mask.dtype, device=device)
                rates = rates.view(-1, *[1] * (mask.ndim - 1))
                mask.copy_((torch.rand_like(mask) >= rates) / (1 - rates))
            return masks
        for index, probabilities in enumerate(self._probabilities):
            torch.set_rng_state(random_states[index])
            for mask, p in zip(masks, probabilities, strict=True):
                mask[index] = F.dropout(mask[index], p)
            random_states[index] = torch.get_rng_state()
        return masks

    def _shapes_at_dropouts(self, batch: Any) -> list[tuple[torch.Size, torch.dtype]]:
        """Returns shape and dtype of what each dropout layer gets, in the order in which they are applied."""
        shapes: list[tuple[torch.Size, torch.dtype]] = []
        order: list[nn.Module] = []

        def record(module: nn.Module, inputs: Any) -> None:
            shapes.append((inputs[0].shape, inputs[0].dtype))
            order.append(module)

        handles = [module.register_forward_pre_hook(record) for module in self._dropouts]
        buffers = {name: tensor[0].clone() for name, tensor in self._buffers.items()}
        state = torch.get_rng_state()
        try:
            with torch.no_grad(), self._template.given({}, []):
                functional_call(
                    self._template, {f"model.{name}": tensor for name, tensor in buffers.items()}, (batch, 0)
                )
        finally:
            torch.set_rng_state(state)
            for handle in handles:
                handle.remove()
        if order != self._dropouts:
            raise RuntimeError("a dropout layer is applied more than once, or not in its order")
        return shapes
