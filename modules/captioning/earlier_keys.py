"""State dicts saved under earlier names of a captioner's layers, read under the names of today."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn


def read_earlier_keys(module: nn.Module, renamed: Mapping[str, str]) -> None:
    """Lets `load_state_dict` read earlier names of a module's parameters and submodules.

    Args:
        module: Module whose state dict is loaded, by itself or as part of another one.
        renamed: Beginning of an earlier key → beginning of today's key, both below the module.
    """
    module.register_load_state_dict_pre_hook(partial(_rename, renamed))


def _rename(renamed: Mapping[str, str], _: nn.Module, state_dict: dict[str, Any], prefix: str, *__: Any) -> None:
    for key in list(state_dict):
        for earlier, current in renamed.items():
            if key.startswith(prefix + earlier):
                state_dict[prefix + current + key.removeprefix(prefix + earlier)] = state_dict.pop(key)
