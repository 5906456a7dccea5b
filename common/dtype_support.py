"""Whether a device computes in a precision, or would only imitate it, many times slower."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from common.errors import UserError

_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # the last one is Arm's


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by itself; only CPUs and CUDA's devices are asked.

    A CPU with AVX2 alone trained ResNet-18 15 times slower in bfloat16 than in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else None
    if device.type != "cpu" or capabilities is None:
        return True
    return any(capabilities.get(name) for name in _BFLOAT16_INSTRUCTIONS)


def mixed_precision(device: torch.device) -> Literal["bf16-mixed", "32-true"]:
    """Lightning's name of bfloat16 beside float32, or of float32 alone on a device that would only imitate bfloat16."""
    return "bf16-mixed" if has_bfloat16(device) else "32-true"


def check_precision(precision: str, device: torch.device) -> None:
    """Refuses a precision that a device can only imitate.

    Raises:
        ValueError: bfloat16 on a GPU without it, or float16 on a CPU.
    """
    if device.type == "cuda" and "bf16" in precision and not has_bfloat16(device):
        name = torch.cuda.get_device_name(device)
        raise UserError(
            f"{name} has no bfloat16, but precision is {precision}; give --trainer.precision 16-mixed or 32-true."
        )
    if device.type == "cpu" and precision.startswith("16"):
        instead = mixed_precision(device)
        raise UserError(f"CPUs train in no float16, but precision is {precision}; give --trainer.precision {instead}.")


class FastStep(Optimizer):
    """The first parent of an optimizer whose steps are in bfloat16: they are in float32 where that is only imitated.

    It is for libraries' optimizers that leave no choice, such as timm's and torch's Muon.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """A step; `closure`, which computes loss and gradients, computes in the precision that it likes."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        device = self.param_groups[0]["params"][0].device
        with nullcontext() if has_bfloat16(device) else _Float32ForBFloat16():
            super().step()
        return loss


class _Float32ForBFloat16(TorchFunctionMode):
    """Who asks for bfloat16 gets float32, in a copy of its own as a change of type would give."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.bfloat16:
            return args[0].to(torch.float32, copy=True)
        if (kwargs or {}).get("dtype") is torch.bfloat16:
            kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **(kwargs or {}))
