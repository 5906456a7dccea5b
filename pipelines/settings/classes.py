"""The classes that settings name, and the settings of each class."""

import inspect
from importlib import import_module
from types import ModuleType
from typing import Any, get_type_hints

import torch
from lightning.pytorch import Trainer
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch import loggers as lightning_loggers
from lightning.pytorch.callbacks import ModelCheckpoint

import callbacks
import datamodules
import modules
from pipelines.tracking.wandb_options import WandbOptions

CLASS_KEYS = {"model": "LinearSVM", "data": "CIFAR10", "optimizer": "SGD", "lr_scheduler": "StepLR"}
"""Keys whose value is a class with its settings, each with a class as an example."""

GROUPS: dict[str, type] = {
    "trainer": Trainer,
    "checkpoint": ModelCheckpoint,
    "last_checkpoint": ModelCheckpoint,
    "wandb": WandbOptions,
}
"""Keys whose value is the settings of a fixed class, with that class."""


def class_names(key: str) -> list[str]:
    """Returns the names of the classes that a key accepts by their name alone."""
    return [name for home in _homes(key) for name in _names(home)]


def _homes(key: str) -> list[ModuleType]:
    """Returns the modules whose classes a key accepts by their name alone."""
    homes: dict[str, list[ModuleType]] = {
        "model": [modules],
        "data": [datamodules],
        "trainer.callbacks": [callbacks, lightning_callbacks],
        "trainer.logger": [lightning_loggers],
        "optimizer": [torch.optim, import_module("modules.optimizers.muon"), import_module("modules.optimizers.lars")],
        "lr_scheduler": [torch.optim.lr_scheduler],
    }
    return homes.get(key, [])


def _names(home: ModuleType) -> list[str]:
    named = getattr(home, "__all__", None)  # the project's packages import each class lazily
    return list(named) if named else [name for name, value in vars(home).items() if isinstance(value, type)]


def find_class(path: str, key: str = "") -> type | None:
    """Returns a class by its path, or by its name alone among those that a key accepts."""
    module, _, name = path.rpartition(".")
    try:
        homes = [import_module(module)] if module else _homes(key)
    except Exception:  # the caller reports a class that can't be imported
        return None
    found = next((value for home in homes if (value := getattr(home, name, None)) is not None), None)
    return found if isinstance(found, type) else None


def settings_of_class(owner: type) -> dict[str, Any]:
    """Returns the settings of a class with their type hints, including those that it passes to its base classes."""
    found: dict[str, Any] = {}
    for base in inspect.getmro(owner):
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters
        try:
            hints = get_type_hints(vars(base)["__init__"])
        except Exception:  # a hint of a name that is imported for type checkers only
            hints = {}
        for parameter in parameters.values():
            hint = hints.get(parameter.name, parameter.annotation)
            scheduled = parameter.name == "optimizer" and "Optimizer" in str(hint)  # of a schedule, set by the run
            if parameter.name not in ("self", "params", "args", "kwargs") and not scheduled:
                found.setdefault(parameter.name, hint)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return found
