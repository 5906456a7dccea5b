"""L1 distances on a CPU, by blocks of memorized vectors that stay in a core's cache.

L1 is no matrix product, but for uint8 pixels as int8 (minus 128)

    Σ |q_d − m_d| = 2 Σ max(q_d, m_d) − Σ q_d − Σ m_d

needs one maximum for each byte, and the sum of the maxima is the int8 product with a vector of ones.

Shapes: N memorized vectors, B queries, D values of one vector.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from modules.neighbors.int8_product import SIZE_MULTIPLE

_CACHE_BYTES = 2**19  # size of a block of memory that stays in a core's own cache


def l1_distances(queries: Tensor, memory: Tensor, sums: Tensor | None, out: Tensor) -> Tensor:
    """Writes Σ |q − m| of all queries and memorized vectors into `out`.

    Args:
        queries: (B, D), int8 or floats.
        memory: (N, D), of the same type.
        sums: Σ m of each memorized vector, (N,) int32, if they are int8; None for floats.
        out: (B, N), int32 for int8 vectors, otherwise of the vectors' type.
    """
    threads = torch.get_num_threads()
    # Each operation is too short to be split among threads, so each thread computes the distances of its own queries.
    work = partial(_l1_in_one_thread, memory, sums)
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, queries.tensor_split(threads), out.tensor_split(threads)))
    finally:
        torch.set_num_threads(threads)
    return out


@torch.inference_mode()  # new threads don't inherit it
def _l1_in_one_thread(memory: Tensor, sums: Tensor | None, queries: Tensor, out: Tensor) -> None:
    torch.set_num_threads(1)
    rows = max(1, _CACHE_BYTES // memory[0].nbytes)
    blocks = memory.split(rows)
    space = torch.empty_like(blocks[0])
    if sums is None:
        for block, columns in zip(blocks, out.split(rows, 1), strict=True):
            for query, distances in zip(queries, columns, strict=True):
                torch.sum(torch.sub(block, query, out=space[: len(block)]).abs_(), 1, out=distances)
        return
    ones = torch.ones(memory.shape[1], SIZE_MULTIPLE, dtype=torch.int8)
    products = torch.empty(rows, SIZE_MULTIPLE, dtype=torch.int32)
    for block, columns in zip(blocks, out.split(rows, 1), strict=True):
        for query, distances in zip(queries, columns, strict=True):
            larger = torch.maximum(block, query, out=space[: len(block)])
            distances.copy_(torch._int_mm(larger, ones, out=products[: len(block)])[:, 0])
    out.mul_(2).sub_(sums).sub_(queries.sum(1, dtype=torch.int32)[:, None])
