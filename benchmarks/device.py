"""Timing on asynchronous devices, and their peak rate of matrix products."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Clock
from common.machine.dtype_support import has_bfloat16

_SIDE = {"cuda": 8192, "cpu": 2048}  # of the square matrices
_SECONDS = 1.0


def synchronize(device: torch.device) -> None:
    """Waits for all kernels of a GPU; does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Timer(L.Callback):
    """Times the steps from `first` to the last one, or to `last`, at which it ends the run."""

    def __init__(self, first: int = 0, last: int | None = None) -> None:
        self.first, self.last = first, last
        self.steps = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.steps == self.first:
            synchronize(pl_module.device)
            self.started = Clock.now()
        if self.steps == self.last:
            self._stop(pl_module.device)
            trainer.should_stop = True
        self.steps += 1

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.last is None:
            self._stop(pl_module.device)

    def _stop(self, device: torch.device) -> None:
        synchronize(device)
        self.time = Clock.now() - self.started


def name_of(device: torch.device) -> str:
    """Returns the device's name for the head of a table."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the FLOP/s of a large square matrix product, the best of several measurements."""
    side = _SIDE.get(device.type, 2048)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, ends = 0.0, perf_counter() + _SECONDS
    while best == 0.0 or perf_counter() < ends:
        synchronize(device)
        started = perf_counter()
        for _ in range(5):
            left @ right
        synchronize(device)
        best = max(best, 5 * 2 * side**3 / (perf_counter() - started))
    return best


def flops(step: Callable[[], Any]) -> float:
    """Returns the FLOPs of the matrix products and convolutions of a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def fast_dtype(device: torch.device) -> torch.dtype:
    """Returns bfloat16, or float32 on a device without bfloat16 instructions."""
    return torch.bfloat16 if has_bfloat16(device) else torch.float32


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Returns the autocast context of a Lightning precision; it is disabled unless the precision is a mixed one."""
    dtype = torch.float16 if precision.startswith("16") else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision.endswith("mixed"))


def to_device(batch: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Returns a batch on the device."""
    return tuple(tensor.to(device, non_blocking=True) for tensor in batch)
