"""Which number formats a device computes in, and which it would only emulate, many times slower."""

from typing import Literal

import torch

from common.errors import UserError

_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # the last is Arm's


def has_bfloat16(device: torch.device) -> bool:
    """Returns whether a device has bfloat16 instructions; devices other than CPUs and CUDA GPUs count as having them.

    A CPU with AVX2 only trained ResNet-18 15 times slower in bfloat16 than in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else None
    if device.type != "cpu" or capabilities is None:
        return True
    return any(capabilities.get(name) for name in _BFLOAT16_INSTRUCTIONS)


def mixed_precision(device: torch.device) -> Literal["bf16-mixed", "32-true"]:
    """Returns Lightning's precision bf16-mixed, or 32-true on a device without bfloat16 instructions."""
    return "bf16-mixed" if has_bfloat16(device) else "32-true"


def check_precision(precision: str, device: torch.device) -> None:
    """Refuses a precision that a device can only emulate.

    Raises:
        ValueError: If the precision is bfloat16 on a GPU without it, or float16 on a CPU.
    """
    if device.type == "cuda" and "bf16" in precision and not has_bfloat16(device):
        name = torch.cuda.get_device_name(device)
        raise UserError(f"{name} has no bfloat16, but precision is {precision}; use 16-mixed or 32-true.")
    if device.type == "cpu" and precision.startswith("16"):
        instead = mixed_precision(device)
        raise UserError(f"float16 training is not supported on CPUs, but precision is {precision}; use {instead}.")
