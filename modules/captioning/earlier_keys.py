"""Loads state dicts of earlier versions: maps old parameter names of the captioners to the current ones."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn


def read_earlier_keys(module: nn.Module, renamed: Mapping[str, str]) -> None:
    """Lets `load_state_dict` read earlier names of a module's parameters and submodules.

    Args:
        module: Module whose state dict is loaded, by itself or as part of another one.
        renamed: Beginning of an earlier key → beginning of the current key, both below the module.
    """
    module.earlier_keys = dict(renamed)  # type: ignore[assignment]  # for `current_keys`
    module.register_load_state_dict_pre_hook(partial(_rename, renamed))


def current_keys(module: nn.Module, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state dict under current names, as `load_state_dict` of the module reads it."""
    current = dict(state_dict)
    for name, submodule in module.named_modules():
        if hasattr(submodule, "earlier_keys"):
            _rename(submodule.earlier_keys, submodule, current, f"{name}." if name else "")
    return current


def _rename(renamed: Mapping[str, str], _: nn.Module, state_dict: dict[str, Any], prefix: str, *__: Any) -> None:
    for key in list(state_dict):
        for earlier, current in renamed.items():
            if key.startswith(prefix + earlier):
                state_dict[prefix + current + key.removeprefix(prefix + earlier)] = state_dict.pop(key)
