"""Whether a device computes in the precision that a run asks for, or would only imitate it, many times slower."""

import torch


def check_precision(precision: str, device: torch.device) -> None:
    """Refuses a precision that a device can only imitate.

    Raises:
        ValueError: bfloat16 on a GPU without it, or float16 on a CPU.
    """
    if device.type == "cuda" and "bf16" in precision and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"{name} has no bfloat16, but precision is {precision}; give --trainer.precision 16-mixed.")
    if device.type == "cpu" and precision.startswith("16"):
        raise ValueError(
            f"CPUs train in no float16, but precision is {precision}; give --trainer.precision bf16-mixed."
        )
