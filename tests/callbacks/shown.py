"""A stand-in for the functions that draw pictures, for tests of what a callback passes to them."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest


class Shown:
    """Replaces a drawing function and stores its arguments.

    Args:
        monkeypatch: Restores the function after the test.
        module: The callback's module.
        name: Name of the function there.

    Attributes:
        calls: The positional arguments of each call.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str = "image_grid") -> None:
        self.calls: list[tuple[Any, ...]] = []
        monkeypatch.setattr(module, name, self)

    def __call__(self, *given: Any, **settings: Any) -> np.ndarray:
        self.calls.append(given)
        return np.zeros((2, 2, 3), np.uint8)
