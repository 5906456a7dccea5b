"""A process that keeps freed memory has fewer page faults when it allocates the same size again."""

import os
import subprocess
import sys

import pytest

from tests.command_line import PROJECT

_FAULTS = """
import resource, sys
from pipelines.run.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
import torch
def allocate():
    torch.empty(2**26, dtype=torch.uint8).fill_(1)
allocate()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    allocate()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
def test_freed_memory_is_reused() -> None:
    faults = {}
    for kind in ("plain", "kept"):
        environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
        done = subprocess.run(
            [sys.executable, "-c", _FAULTS, kind],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        faults[kind] = int(done.stdout)
    assert faults["kept"] < 0.01 * faults["plain"], faults


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.run import allocator

    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # calling it would fail
    allocator.keep_freed_memory()
    assert "THP_MEM_ALLOC_ENABLE" not in os.environ
