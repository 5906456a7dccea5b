"""Finds the classes that settings name."""

from importlib import import_module
from types import ModuleType

import torch
from lightning.pytorch import callbacks as lightning_callbacks

import callbacks
import datamodules
import modules


def class_names(key: str) -> list[str]:
    """Returns the names of the classes that a key accepts by their name alone."""
    return [name for home in _homes(key) for name in _names(home)]


def _homes(key: str) -> list[ModuleType]:
    """Returns the modules whose classes a key accepts by their name alone."""
    homes: dict[str, list[ModuleType]] = {
        "model": [modules],
        "data": [datamodules],
        "trainer.callbacks": [callbacks, lightning_callbacks],
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
