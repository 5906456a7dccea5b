"""What belongs to a process and differs between the runs of a pack, which share one."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import numpy as np
import torch


class ProcessState:
    """Environment variables, arguments and random number generators of a run; at first those of this process.

    Args:
        environment: All environment variables.
        argv: Program and arguments.

    Attributes:
        torch: State of torch's random number generator.
    """

    def __init__(self, environment: dict[str, str], argv: list[str]) -> None:
        self._environment = environment
        self._argv = argv
        self._python, self._numpy, self.torch = random.getstate(), np.random.get_state(), torch.get_rng_state()

    @contextmanager
    def swapped_in(self, output: TextIO) -> Iterator[None]:
        """Context in which the process has this state, and its standard output and error go to `output`."""
        before = dict(os.environ), sys.argv, sys.stdout, sys.stderr
        _set_environment(self._environment)
        sys.argv, sys.stdout, sys.stderr = self._argv, output, output
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self.torch)
        try:
            yield
        finally:
            self._python, self._numpy, self.torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
            self._environment = dict(os.environ)
            environment, sys.argv, sys.stdout, sys.stderr = before
            _set_environment(environment)


def _set_environment(wanted: dict[str, str]) -> None:
    """Makes the environment variables those of a dictionary."""
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
