"""Checks that optimizers and schedules can continue with the state that a checkpoint has restored.

torch restores any value: a setting of another type, or a moment of another shape, would end in an error in the first
step, or in other weights. Restored settings are compared by type with the configured ones and tried on small tensors.
The state of each parameter is compared with that of a trial step on torch's meta device, which allocates no memory.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from common.errors import UserError
from modules.fast_convnet.fast_optimizers import ChainedOptimizer

State = dict[str, Any]

_TRIED_SIZE = 8  # largest side of the small tensors on which settings are tried
_LARGEST_COUNT = 2**53  # up to here floats hold every integer


def parts(optimizer: Optimizer) -> Sequence[Optimizer]:
    """Returns the optimizers of a chain, or the optimizer itself."""
    return optimizer.optimizers if isinstance(optimizer, ChainedOptimizer) else (optimizer,)


def settings_of(optimizer: Optimizer) -> list[State]:
    """Returns the settings of each parameter group."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def check_restored(optimizer: Optimizer, configured: Sequence[State]) -> None:
    """Refuses a restored state with which an optimizer can't take a step, and completes it with configured settings.

    Checkpoints of earlier versions lack settings that a class did not have then.

    Args:
        optimizer: Optimizer after its state was restored, no chain.
        configured: Its `settings_of` before.

    Raises:
        ValueError: If a setting has another type or range, or a state tensor is missing or of another shape.
    """
    name = type(optimizer).__name__
    for settings, group in zip(configured, optimizer.param_groups, strict=True):
        group.update({key: value for key, value in settings.items() if key not in group})
        _compare(name, settings, group)
        rate: Any = group.get("lr")
        if _is_number(rate) and not rate >= 0:
            raise _unusable(f"{name}'s lr is {_short(rate)}, not a number ≥ 0")
        small = [(tuple(min(side, _TRIED_SIZE) for side in p.shape), p.device, p.dtype) for p in group["params"]]
        tensors = [torch.zeros(shape, device=device, dtype=dtype) for shape, device, dtype in dict.fromkeys(small)]
        lr = settings.get("initial_lr", settings.get("lr"))
        if _error(optimizer, settings, tensors, lr) is None and (error := _error(optimizer, group, tensors, lr)):
            raise _unusable(f"{name} can't take a step with its settings: {_line(error)}")
        try:
            shapes = [torch.empty_like(p, device="meta") for p in group["params"]]
            expected = step_once(optimizer, group, shapes, lr)
        except Exception:  # an optimizer with another interface, or one that reads values
            continue
        for parameter, state in zip(group["params"], expected, strict=True):
            _compare_state(name, state, optimizer.state.get(parameter, {}))


def check_schedule(schedule: Any, stored: Any) -> None:
    """Refuses the stored state of a schedule with which it can't take a step.

    Raises:
        ValueError: If a value has another type than the schedule's own, or a step fails.
    """
    name = type(schedule).__name__
    if not isinstance(stored, Mapping):
        raise _unusable(f"the state of {name} is {_short(stored)}")
    fresh = schedule.state_dict()
    shared = {key: value for key, value in fresh.items() if key in stored and value is not None}
    _compare(name, shared, stored)
    if "last_epoch" in shared and not 0 <= stored["last_epoch"] < _LARGEST_COUNT:
        raise _unusable(f"{name}'s last_epoch is {_short(stored['last_epoch'])}, not a count of steps")
    if _schedule_error(schedule, fresh) is None and (error := _schedule_error(schedule, stored)):
        raise _unusable(f"{name} can't take a step with its state: {_line(error)}")


def _schedule_error(schedule: Any, state: Mapping[str, Any]) -> Exception | None:
    """Returns why a copy of the schedule can't take a step from a state; None if it can."""
    try:
        groups = [{"params": [nn.Parameter(torch.zeros(()))], **each} for each in settings_of(schedule.optimizer)]
        # The copy has an optimizer of its own, also where a schedule has others in it.
        tried = deepcopy(schedule, {id(schedule.optimizer): torch.optim.SGD(deepcopy(groups))})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its optimizer has made no step
            tried.load_state_dict(deepcopy(dict(state)))
            tried.step(*([1.0] if isinstance(tried, ReduceLROnPlateau) else []))
    except Exception as error:
        return error
    return None


def step_once(optimizer: Optimizer, settings: Mapping[str, Any], on: Iterable[Tensor], lr: Any) -> list[State]:
    """Takes one step of a new optimizer of the same class, and returns its state for each parameter.

    Args:
        optimizer: Optimizer of that class.
        settings: Settings of a parameter group.
        on: Values of the parameters, whose gradients are ones.
        lr: Learning rate with which it is created; that of a schedule may be one that the class refuses, such as 0.

    Raises:
        Exception: If the class has another interface, such as a wrapper, or can't take a step with the settings.
    """
    accepted = signature(type(optimizer)).parameters
    used = {key: value for key, value in settings.items() if key != "params"}
    created = {key: value for key, value in {**used, "lr": lr}.items() if key in accepted}
    parameters = [nn.Parameter(values) for values in on]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial: Any = type(optimizer)(parameters, **created)
        trial.param_groups[0].update(used)
        trial.step(lambda: torch.zeros(()))
    return [dict(trial.state[parameter]) for parameter in parameters]


def _error(optimizer: Optimizer, settings: Mapping[str, Any], on: Iterable[Tensor], lr: Any) -> Exception | None:
    """Returns why the optimizer can't take a step with settings; None if it can."""
    try:
        step_once(optimizer, settings, on, lr)
    except Exception as error:
        return error
    return None


def _compare(owner: str, configured: Mapping[str, Any], restored: Mapping[str, Any]) -> None:
    for key, value in configured.items():
        if not _alike(restored[key], value):
            raise _unusable(f"{owner}'s {key} is {_short(restored[key])}, not a value such as {_short(value)}")


def _alike(value: Any, like: Any) -> bool:
    """Returns whether a value has the type of another one; a number may also be a tensor, and None a switch."""
    if like is None:
        return value is None or isinstance(value, bool)  # torch's foreach and fused
    if isinstance(like, bool) or isinstance(value, bool):
        return isinstance(like, bool) and isinstance(value, bool)
    if _is_number(like):
        return _is_number(value) and (_is_finite(value) or not _is_finite(like))  # best of a schedule begins with inf
    if isinstance(like, list | tuple):
        pairs = zip(value, like, strict=True) if isinstance(value, list | tuple) and len(value) == len(like) else None
        return pairs is not None and all(_alike(*pair) for pair in pairs)
    if isinstance(like, Mapping):
        return isinstance(value, Mapping) and all(key in value and _alike(value[key], like[key]) for key in like)
    return isinstance(value, str) or not isinstance(like, str)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex() and value.layout is torch.strided
    return isinstance(value, int | float)


def _is_finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int too large for a float
        return False


def _compare_state(owner: str, expected: State, restored: Mapping[str, Any]) -> None:
    """Compares the state of a parameter with that after a step; one without a gradient so far has no state."""
    if not restored:
        return
    for key, value in expected.items():
        if key not in restored:
            raise _unusable(f"{owner} lacks {key} of a parameter")
        found = restored[key]
        if isinstance(value, Tensor) and value.ndim:
            fits = isinstance(found, Tensor) and found.shape == value.shape and found.layout is torch.strided
        elif _is_number(value):
            fits = _is_number(found) and (key != "step" or (_is_finite(found) and found >= 0))
        else:
            fits = True
        if not fits:
            raise _unusable(f"{owner}'s {key} of a parameter is {_short(found)}, not {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, Tensor) and value.ndim:
        return f"a tensor of shape {tuple(value.shape)}" + (", sparse" if value.layout is not torch.strided else "")
    text = repr(value.item() if isinstance(value, Tensor) and value.device.type != "meta" else value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")[:140]


def _unusable(reason: str) -> UserError:
    return UserError(
        f"The training state in the checkpoint can't be used ({reason}); use another checkpoint of the run."
    )
