"""Matrix products of int8 vectors, which processors with int8 instructions compute several times as fast as float32.

Subtracting 128 from uint8 pixels turns them into int8 and changes no difference between two pixels.

Shapes: M vectors, D values of one vector.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

SIZE_MULTIPLE = 8  # CUDA's int8 product requires sizes that are multiples of this
_MIN_ROWS = 24  # and more than 16 rows
_INT8_INSTRUCTIONS = ("avx_vnni", "avx512_vnni", "amx_int8")


@lru_cache
def int8_product_pays(device: torch.device) -> bool:
    """Returns whether torch's int8 product exists, is correct on a device, and is backed by int8 instructions.

    `torch._int_mm` is private and may change or disappear; the results without it are the same. The product is not
    timed: on a busy machine the answer would differ from one run to the next.
    """
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randint(-128, 128, (rows, 1000), generator=generator).to(device, torch.int8) for rows in (_MIN_ROWS, 64)
    )
    try:
        product: Any = torch._int_mm(left, right.mT)
    except (AttributeError, RuntimeError, TypeError):
        return False
    # Sums of up to 1,024 such products are exact in float32.
    if not torch.equal(product, (left.float() @ right.float().mT).int()):
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, bool])()
    return device.type == "cuda" or any(capabilities.get(name) for name in _INT8_INSTRUCTIONS)


def padded_rows(rows: int) -> int:
    """Returns the number of rows, at least `rows`, that the int8 product accepts."""
    return max(_MIN_ROWS, _next_multiple(rows))


def to_int8(pixels: Tensor) -> Tensor:
    """Returns uint8 pixels (M, D) minus 128 as int8, with zeros appended to (≥ M, ≥ D) as the int8 product requires."""
    count, values = pixels.shape
    padded = pixels.new_full((padded_rows(count), _next_multiple(values)), 128)
    padded[:count, :values] = pixels
    return padded.bitwise_xor_(128).view(torch.int8)  # flipping the highest bit subtracts 128


def _next_multiple(size: int) -> int:
    return -(-size // SIZE_MULTIPLE) * SIZE_MULTIPLE
