"""Restored optimizer states: what a run has saved continues, and every value that can't is refused in one sentence."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from common.errors import UserError
from modules import WarmupCosine
from modules.fast_convnet.fast_optimizers import ChainedOptimizer
from modules.optimizers.lars import LARS
from modules.optimizers.muon import Muon
from pipelines.checkpoints.restored_optimizers import check_restored, check_schedule, parts, settings_of

State = dict[str, Any]
Make = Callable[[list[nn.Parameter]], optim.Optimizer]


def groups(weights: list[nn.Parameter]) -> list[State]:
    return [{"params": weights[:2]}, {"params": weights[2:], "weight_decay": 0}]


def muon_and_sgd(weights: list[nn.Parameter]) -> optim.Optimizer:
    matrices = {"params": weights[:2], "use_muon": True}
    return ChainedOptimizer(Muon([matrices], 0.02), optim.SGD(weights[2:], 0.1, momentum=0.9))


OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda weights: optim.SGD(weights, 0.1),
    "momentum": lambda weights: optim.SGD(weights, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda weights: optim.Adam(weights, 0.1, amsgrad=True),
    "AdamW": lambda weights: optim.AdamW(groups(weights), 0.1),
    "fused": lambda weights: optim.AdamW(weights, 0.1, fused=True),
    "tensor": lambda weights: optim.Adam(weights, torch.tensor(0.1), foreach=False),
    "Adafactor": lambda weights: optim.Adafactor(weights),
    "RMSprop": lambda weights: optim.RMSprop(weights, 0.1, centered=True),
    "Adagrad": lambda weights: optim.Adagrad(weights, 0.1),
    "NAdam": lambda weights: optim.NAdam(weights, 0.1),
    "LBFGS": lambda weights: optim.LBFGS(weights, 0.1),
    "Muon": lambda weights: Muon(weights, 0.02),
    "LARS": lambda weights: LARS(weights, 0.1),
    "chain": muon_and_sgd,
}


def parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in ((20, 12), (6, 3, 3, 3), (6, 1, 3, 3), (20,), ())]


def steps(optimizer: optim.Optimizer, weights: list[nn.Parameter], number: int) -> None:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum((weight.square().sum() for weight in weights[:-1]), torch.zeros(()))  # the last gets no gradient
        loss.backward()
        return loss

    for _ in range(number):
        optimizer.step(closure)


def restore(make: Make, saved: State) -> None:
    """Restores a state in a new optimizer, checks it, and takes a step."""
    weights = parameters()
    optimizer = make(weights)
    configured = [(part, settings_of(part)) for part in parts(optimizer)]
    try:
        optimizer.load_state_dict(saved)
    except Exception as error:  # which `refused_if_damaged` reports
        raise UserError(
            f"The training state in the checkpoint can't be used ({error}); use another checkpoint of the run."
        ) from error
    for part, settings in configured:
        check_restored(part, settings)
    steps(optimizer, weights, 1)


def saved_by(make: Make, number: int = 3) -> State:
    weights = parameters()
    optimizer = make(weights)
    steps(optimizer, weights, number)
    for group in optimizer.param_groups:  # as a schedule at its end
        group["lr"] = group["lr"] * 0
    return copy.deepcopy(optimizer.state_dict())


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("number", [0, 1, 3])
def test_what_an_optimizer_has_saved_is_accepted(name: str, number: int) -> None:
    restore(OPTIMIZERS[name], saved_by(OPTIMIZERS[name], number))


def refusal(call: Callable[[], None]) -> str | None:
    """The sentence with which a state is refused, None if it is accepted; other errors are raised."""
    try:
        call()
    except UserError as error:
        message = str(error)
    else:
        return None
    assert message.startswith("The training state in the checkpoint can't be used (")
    assert message.endswith("); use another checkpoint of the run.") and len(message) < 300
    return message


ODD: list[Any] = [None, True, "x", "-1000000000000", "", [], [1], {}, {"a": 1}, float("nan"), -(10**12), 10**400]
ODD += [2.0, 1.0, 3]


@pytest.mark.parametrize("name", ["momentum", "Adam", "AdamW", "Muon", "chain"])
def test_no_setting_of_another_type_ends_in_a_traceback(name: str) -> None:
    saved = saved_by(OPTIMIZERS[name])
    refused = 0
    for index, group in enumerate(saved["param_groups"]):
        for key in group.keys() - {"params"}:
            for value in [*ODD, KeyError]:
                damaged = copy.deepcopy(saved)
                if value is KeyError:
                    del damaged["param_groups"][index][key]
                else:
                    damaged["param_groups"][index][key] = value
                refused += refusal(partial(restore, OPTIMIZERS[name], damaged)) is not None
    assert refused > 6 * len(saved["param_groups"][0])


OTHER: list[Callable[[Tensor], Any]] = [
    lambda tensor: None,
    lambda tensor: "x",
    lambda tensor: tensor.tolist(),
    lambda tensor: tensor[None].repeat(2, *[1] * tensor.ndim),
    lambda tensor: torch.empty(0),
    lambda tensor: tensor.to_sparse() if tensor.ndim else torch.tensor(-1.0),
    lambda tensor: torch.zeros(7, 7),
    lambda tensor: tensor.to(torch.complex64),
]


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("name", ["momentum", "Adam", "RMSprop", "Muon", "chain"])
def test_no_state_of_another_shape_ends_in_a_traceback(name: str) -> None:
    saved = saved_by(OPTIMIZERS[name])
    refused = 0
    for index, state in saved["state"].items():
        for key, value in state.items():
            if not isinstance(value, Tensor):
                continue
            for other in [*OTHER, KeyError]:
                damaged = copy.deepcopy(saved)
                if other is KeyError and len(state) > 1:
                    del damaged["state"][index][key]
                elif other is not KeyError:
                    damaged["state"][index][key] = other(value)
                refused += refusal(partial(restore, OPTIMIZERS[name], damaged)) is not None
    assert refused > 4 * len(saved["state"])


SCHEDULES: list[Callable[[optim.Optimizer], LRScheduler]] = [
    lambda optimizer: WarmupCosine(optimizer, 0.2),
    lambda optimizer: StepLR(optimizer, 2),
    lambda optimizer: CosineAnnealingLR(optimizer, 20),
    lambda optimizer: LambdaLR(optimizer, lambda step: 0.9**step),
    lambda optimizer: ReduceLROnPlateau(optimizer),
    lambda optimizer: OneCycleLR(optimizer, 0.1, 30),
]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("make", SCHEDULES)
def test_states_of_schedules(make: Callable[[optim.Optimizer], Any]) -> None:
    def new() -> Any:
        return make(optim.SGD(parameters(), 0.1, momentum=0.9))

    def step(schedule: Any) -> None:
        schedule.step(*([1.0] if isinstance(schedule, ReduceLROnPlateau) else []))

    schedule = new()
    for _ in range(3):
        step(schedule)
    saved = copy.deepcopy(schedule.state_dict())
    check_schedule(new(), saved)
    refused = 0
    states: list[Any] = [*({**saved, key: value} for key in saved for value in ODD), 3, None, []]
    for damaged in states:
        fresh = new()
        if refusal(partial(check_schedule, fresh, copy.deepcopy(damaged))) is not None:
            refused += 1
            continue
        fresh.load_state_dict(damaged)
        step(fresh)
    assert refused > 4 * len(saved)
