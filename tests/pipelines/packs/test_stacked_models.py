"""Training steps of stacked models equal those of each model by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from modules import FullyConnectedNet, LinearSVM, SimCLR, SoftmaxRegression
from modules.base.buffered_metrics import BufferedMetrics
from pipelines.checkpoints.checkpoint_io import AtomicCheckpointIO
from pipelines.packs.shared_product import use_shared_products
from pipelines.packs.stacked_models import StackedModels


def batch_of(number: int, shape: tuple[int, ...] = (3, 4, 4)) -> tuple[Tensor, Tensor]:
    return torch.randn(number, *shape, dtype=torch.float64), torch.randint(10, (number,))


def alone(model: BufferedMetrics, batch: Any, state: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """Returns loss, gradients and the state of the random numbers after a model's own training step."""
    torch.set_rng_state(state)
    model.zero_grad()
    loss = model.training_step(batch, 0)
    assert isinstance(loss, Tensor)
    loss.backward()
    return loss.detach(), [p.grad for p in model.parameters() if p.grad is not None], torch.get_rng_state()


@pytest.mark.parametrize(
    "make",
    [
        lambda i: SoftmaxRegression((3, 4, 4), 10, reg=0.1 * i),
        lambda i: LinearSVM((3, 4, 4), 10, reg=0.1, margin=1.0 + i),
        lambda i: FullyConnectedNet((3, 4, 4), 10, [7, 5], "batch", dropout=0.2 * i, reg=0.1 * i),
        lambda i: FullyConnectedNet((3, 4, 4), 10, [7, 5], "layer", dropout=0.5),
    ],
)
def test_steps_are_those_of_each_model(make: Callable[[int], BufferedMetrics]) -> None:
    torch.manual_seed(0)
    models = [make(i).double().train() for i in range(3)]
    copies = [make(i).double().train() for i in range(3)]
    for model, same in zip(models, copies, strict=True):
        same.load_state_dict(model.state_dict())
    states = [torch.Generator().manual_seed(i).get_state() for i in range(3)]
    own_states = list(states)
    stack = StackedModels(models)
    for size in (6, 6, 5):
        batch = batch_of(size)
        for index, step in enumerate(stack.step(batch, states)):
            loss, gradients, own_states[index] = alone(copies[index], batch, own_states[index])
            torch.testing.assert_close(step.loss, loss)
            torch.testing.assert_close(list(step.gradients), gradients)
            torch.testing.assert_close(step.sums["loss"] / step.number, loss)
            assert torch.equal(states[index], own_states[index])
            with torch.no_grad():
                for parameter, gradient in zip(models[index].parameters(), step.gradients, strict=True):
                    parameter.sub_(0.1 * gradient)
                for parameter, gradient in zip(copies[index].parameters(), gradients, strict=True):
                    parameter.sub_(0.1 * gradient)
    stack.release()
    for model, same in zip(models, copies, strict=True):
        for name, value in same.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value, msg=name)


@pytest.mark.parametrize("shared", ["inputs", "weight", "neither"])
def test_the_product_of_a_shared_input_is_that_of_an_affine_layer(shared: str) -> None:
    layer, plain = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
    use_shared_products(layer)
    inputs = torch.randn(6, 4, dtype=torch.float64) if shared == "inputs" else torch.randn(2, 6, 4).double()
    weight = torch.randn(3, 4, dtype=torch.float64) if shared == "weight" else torch.randn(2, 3, 4).double()
    dims = (None if shared == "inputs" else 0, None if shared == "weight" else 0)

    def loss_of(module: nn.Linear) -> Callable[[Tensor, Tensor], Tensor]:
        def loss(inputs: Tensor, weight: Tensor) -> Tensor:
            outputs = torch.func.functional_call(module, {"weight": weight, "bias": torch.ones(3).double()}, (inputs,))
            return outputs.sin().sum()

        return loss

    for argument in (0, 1):
        ours = vmap(grad(loss_of(layer), argument), dims)(inputs, weight)
        torch.testing.assert_close(ours, vmap(grad(loss_of(plain), argument), dims)(inputs, weight))


class Branching(SoftmaxRegression):
    """A loss with a branch on its value, which vmap can't take."""

    def data_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = super().data_loss(logits, labels)
        return 2 * loss if loss > 1 else loss


class Noisy(SoftmaxRegression):
    """A loss with random numbers that are not those of a dropout layer."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + torch.randn_like(images))


class Twice(FullyConnectedNet):
    """A network that applies its dropout layer a second time."""

    def forward(self, images: Tensor) -> Tensor:
        return self.layers[3](super().forward(images))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Branching((3, 4, 4), 10), "Branching can't be stacked ("),
        (lambda: Noisy((3, 4, 4), 10), "Noisy can't be stacked ("),
        (
            lambda: Twice((3, 4, 4), 10, [7], dropout=0.5),
            "Twice can't be stacked (a dropout layer is applied more",
        ),
    ],
)
def test_what_can_not_be_stacked_is_named_and_left_as_it_was(make: Callable[[], BufferedMetrics], reason: str) -> None:
    models = [make().double().train() for _ in range(2)]
    batch, before = batch_of(6), [dict(model.state_dict()) for model in models]
    state = torch.get_rng_state()
    refusal = StackedModels(models).refusal(batch)
    assert refusal is not None and refusal.startswith(reason)
    assert torch.equal(torch.get_rng_state(), state)
    for model, weights in zip(models, before, strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        assert isinstance(model.training_step(batch_of(6), 0), Tensor)  # its own again


def test_a_step_that_keeps_a_tensor_of_all_models_can_not_be_stacked() -> None:
    models = [SimCLR((3, 32, 32), 10, backbone="resnet18").train() for _ in range(2)]
    batch = torch.randn(4, 2, 3, 32, 32), torch.randint(10, (4,))
    refusal = StackedModels(models).refusal(batch)
    assert refusal == "SimCLR can't be stacked (its training step keeps _zero_lengths)"
    assert models[0].nt_xent._zero_lengths is None


def test_trying_a_step_changes_no_running_statistics() -> None:
    models = [FullyConnectedNet((3, 4, 4), 10, [7], "batch").double().train() for _ in range(2)]
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    assert StackedModels(models).refusal(batch_of(6)) is None
    for model, weights in zip(models, before, strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        assert not model._sums  # nothing was counted


def test_a_checkpoint_of_one_model_does_not_hold_the_others(tmp_path: Path) -> None:
    models = [SoftmaxRegression((3, 32, 32), 10) for _ in range(16)]
    sizes = []
    for stacked in (False, True):
        stack = StackedModels(models) if stacked else None
        AtomicCheckpointIO().save_checkpoint({"state_dict": models[3].state_dict()}, tmp_path / "one.ckpt")
        sizes.append((tmp_path / "one.ckpt").stat().st_size)
        assert stack is None or torch.equal(
            torch.load(tmp_path / "one.ckpt", weights_only=True)["state_dict"]["linear.weight"],
            models[3].linear.weight,
        )
    assert sizes[0] == sizes[1]
