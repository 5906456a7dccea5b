"""Exact search for the nearest neighbors: all distances from queries q to memorized vectors m, and the k smallest.

    l1      Σ |q_d − m_d|
    l2      √ Σ (q_d − m_d)²     from  ‖q − m‖² = ‖q‖² − 2 q·m + ‖m‖², whose middle term is one matrix product
    cosine  1 − q·m / (‖q‖ ‖m‖)  which is half the squared l2 distance of the vectors divided by their lengths

Source: https://cs231n.github.io/classification/#nearest-neighbor-classifier

Distances of uint8 pixels are exact under l1 and l2. Taking 128 from both changes no difference and makes them int8,
whose products a processor sums several times as fast as those of float32. L1 has no product, but

    Σ |q_d − m_d| = 2 Σ max(q_d, m_d) − Σ q_d − Σ m_d

needs one maximum for each byte, and its sum is the int8 product with a vector of ones.

Neighbors come in the order of their distances, those at equal distance in the order of the memory, so the result for
pixels depends on nothing else. Distances of floats are rounded sums: vectors that are almost equally far away may
change places with the number of queries searched at a time.

Shapes: N memorized vectors, B queries, D values of one vector, k neighbors.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from common.errors import UserError
from modules.neighbors.topk import smallest

Metric = Literal["l1", "l2", "cosine"]

_INT32_VALUES = 43_000  # D up to which ‖m‖² − 2 q·m of int8 vectors, at most 3·2¹⁴·D, fits into int32
_FLOAT32_SUMMANDS = 1024  # products of int8, at most 2¹⁴, whose sum a float32 holds exactly: 2²⁴
_FLOAT32_PIXELS = 65_000  # D up to which it holds Σ |q − m| of pixels exactly
_INT8_INSTRUCTIONS = ("avx_vnni", "avx512_vnni", "amx_int8")
_MULTIPLE, _LEAST_ROWS = 8, 24  # sizes that CUDA's int8 product takes; it asks for more than 16 rows
_CACHED = 2**19  # bytes of a block of memory that stays in a core's own cache
_BLOCK = 1024  # vectors whose products with all queries are taken at a time, so that their sums stay in the cache
_CHUNK = 64  # vectors turned to another type at a time, so that they stay in the cache
_CANCELLED = 0.01  # share of ‖q‖² + ‖m‖² below which their difference has lost two of float32's seven digits
_PARALLEL = 1e-14  # cosine distance that rounding to float32 may leave between parallel vectors


class NearestNeighbors:
    """Memorized vectors, prepared for search on the device where they are.

    Args:
        memory: (N, ...), uint8 pixels or floats; N at least 1.
        metric: l1, l2 or cosine. Pixels are exact under l2 up to 43,000 values each; cosine takes them as floats.
        memory_limit: bytes of distances held at a time, besides the memory; enough for one query is always taken.

    Raises:
        ValueError: an unknown metric, a limit below 1, an empty memory, or a zero vector in it under cosine.
    """

    def __init__(self, memory: Tensor, metric: Metric = "l2", memory_limit: int = 2**28) -> None:
        if metric not in get_args(Metric):
            raise UserError(f"metric is {metric!r}; give one of {', '.join(get_args(Metric))}.")
        if memory_limit < 1:
            raise UserError(f"memory_limit is {memory_limit}; give the bytes that a search may take, such as 2**28.")
        if not len(memory):
            raise UserError("The memory is empty; give at least one vector to memorize.")
        self.metric, self.memory_limit = metric, memory_limit
        self.size, self.dtype, self.values = len(memory), memory.dtype, memory[0].numel()
        on_cpu = memory.device.type == "cpu"
        self._exact = memory.dtype == torch.uint8 and metric != "cosine" and self.values <= _INT32_VALUES
        # On a GPU the blocks of l1 would be too small to keep it busy.
        self._int8 = self._exact and (on_cpu or metric == "l2") and int8_product_pays(memory.device)
        self._memory = self._prepare(self._vectors(memory, "Memorized vector"))  # (≥ N, ≥ D)
        self._keys = torch.empty(0)  # room for distances
        if metric != "l1":
            self._squares = _squared_lengths(self._memory, self._exact)[: self.size]  # (N,)
        elif self._int8:
            self._sums = self._memory.sum(1, dtype=torch.int32)[: self.size]  # (N,)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest memorized vectors of each query, nearest first.

        Args:
            queries: (B, ...) with D values each, uint8 if the memory is, on the memory's device.
            k: 1 to N.

        Returns:
            Distances (B, k) float64 and places in the memory (B, k) int64.

        Raises:
            ValueError: k out of range, queries of another size or kind than the memory, a zero vector under cosine.
        """
        if not 1 <= k <= self.size:
            raise UserError(f"k is {k}; give 1 up to the number of memorized vectors, {self.size}.")
        values = queries.shape[1:].numel()
        if values != self.values or (queries.dtype == torch.uint8) != (self.dtype == torch.uint8):
            raise UserError(
                f"A query has {values} values of {_name(queries)}, but a memorized vector has {self.values} of "
                f"{str(self.dtype).removeprefix('torch.')}; give both the same shape and preprocessing."
            )
        queries = self._vectors(queries, "Query")
        kind = torch.int32 if self._int8 or (self._exact and self.metric == "l2") else self._memory.dtype
        parts = 0 if self._int8 or not self._exact else min(_BLOCK, len(self._memory))  # products beside their sum
        per_query = (len(self._memory) + 2 * parts) * kind.itemsize
        rows = max(1, min(self.memory_limit // per_query, len(queries)))
        if len(self._keys) < _padded(rows):
            # Kept for the next search: to touch the pages of a new array takes as long as to find the smallest in it.
            with torch.inference_mode(False):
                self._keys = torch.empty(_padded(rows), len(self._memory), dtype=kind, device=queries.device)
        found = [self._search(chunk, k, self._keys) for chunk in queries.split(rows)]
        distances, places = (torch.cat(parts) for parts in zip(*found, strict=True))
        return distances, places

    def _vectors(self, given: Tensor, name: str) -> Tensor:
        """(M, ...) as vectors (M, D): pixels that stay exact as they are, others as floats, of length 1 for cosine."""
        vectors = given.flatten(1)
        if self._exact:
            return vectors
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        if self.metric != "cosine":
            return vectors
        units = torch.empty_like(vectors)
        for start in range(0, len(vectors), _CHUNK):
            some = vectors[start : start + _CHUNK].double()  # so that equal vectors are rounded to equal ones
            lengths = some.square().sum(1, keepdim=True).sqrt()
            if not lengths.all():
                place = start + int(lengths.flatten().argmin())
                raise UserError(
                    f"{name} {place} is all zeros, so it has no direction to compare by cosine; leave it out or "
                    "choose metric l1 or l2."
                )
            units[start : start + _CHUNK] = some.div_(lengths)
        return units

    def _prepare(self, vectors: Tensor) -> Tensor:
        """Vectors (M, D) as the products take them: exact ones less 128, and padded with zeros if they are int8."""
        if not self._exact:
            return vectors
        if not self._int8:
            wide = self.metric == "l1" and self.values > _FLOAT32_PIXELS
            return vectors.to(torch.float64 if wide else torch.float32) - 128
        columns = -(-self.values // _MULTIPLE) * _MULTIPLE
        padded = vectors.new_full((_padded(len(vectors)), columns), 128)
        padded[: len(vectors), : self.values] = vectors
        return padded.bitwise_xor_(128).view(torch.int8)  # turning the highest bit takes 128 away

    def _search(self, queries: Tensor, k: int, keys: Tensor) -> tuple[Tensor, Tensor]:
        """`search` for one chunk (B, D); `keys`, at least (B, N), is overwritten."""
        rows, queries = len(queries), self._prepare(queries)
        if self.metric == "l1":
            keys = self._l1(queries[:rows], keys[:rows])[:, : self.size]
        else:
            keys = self._l2(queries, keys[: len(queries)])[:rows]
        places = smallest(keys, k)
        distances = keys.gather(1, places).double()
        if self.metric != "l1":
            lengths = _squared_lengths(queries, self._exact)[:rows, None]
            distances = (distances + lengths).clamp(min=0)
            if not self._exact:
                self._repair(distances, queries, places, lengths)
            if self.metric == "l2":
                distances = distances.sqrt()
            else:
                distances = torch.where(distances < 2 * _PARALLEL, 0, distances / 2)
        distances, order = distances.sort(dim=1, stable=True)  # stable: equal ones stay in the order of the memory
        return distances, places.gather(1, order)

    def _l2(self, queries: Tensor, keys: Tensor) -> Tensor:
        """‖m‖² − 2 q·m, which orders as the distances do, into `keys`."""
        used = keys[:, : self.size]
        if self._int8:
            torch._int_mm(queries, self._memory.mT, out=keys)
            return torch.add(self._squares, used, alpha=-2, out=used)
        if not self._exact:
            return torch.addmm(self._squares, queries, self._memory.mT, alpha=-2, out=used)
        used.copy_(self._squares)
        space = queries.new_empty(len(queries) * min(_BLOCK, self.size))
        for block, sums in zip(self._memory.split(_BLOCK), used.split(_BLOCK, 1), strict=True):
            product = space[: len(queries) * len(block)].view(len(queries), len(block))
            parts = (tensor.split(_FLOAT32_SUMMANDS, 1) for tensor in (queries, block))
            for some, memorized in zip(*parts, strict=True):
                sums.add_(torch.mm(some, memorized.mT, out=product).int(), alpha=-2)
        return used

    def _repair(self, squared: Tensor, queries: Tensor, places: Tensor, lengths: Tensor) -> None:
        """Takes squared distances (B, k) that are small differences of large numbers anew from q − m, in place."""
        rows, columns = (squared < _CANCELLED * (lengths + self._squares[places])).nonzero(as_tuple=True)
        step = max(1, self.memory_limit // (16 * self.values))
        for r, c in zip(rows.split(step), columns.split(step), strict=True):
            squared[r, c] = (queries[r].double() - self._memory[places[r, c]]).square().sum(1)

    def _l1(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Σ |q − m| into `keys`; on a GPU into a new array."""
        if keys.device.type != "cpu":
            return torch.cdist(queries, self._memory, p=1)
        threads = torch.get_num_threads()
        # Each operation is too short to be shared by threads, so each thread takes queries of its own.
        shares = zip(queries.tensor_split(threads), keys.tensor_split(threads), strict=True)
        try:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(self._l1_in_one_thread, *zip(*shares, strict=True)))
        finally:
            torch.set_num_threads(threads)
        return keys

    @torch.inference_mode()  # which new threads don't inherit
    def _l1_in_one_thread(self, queries: Tensor, keys: Tensor) -> None:
        """The same for a thread's share, a block of memory after the other, each for all queries."""
        torch.set_num_threads(1)
        rows = max(1, _CACHED // self._memory[0].nbytes)
        blocks = self._memory[: self.size].split(rows)
        space = torch.empty_like(blocks[0])
        if not self._int8:
            for block, columns in zip(blocks, keys[:, : self.size].split(rows, 1), strict=True):
                for query, line in zip(queries, columns, strict=True):
                    torch.sum(torch.sub(block, query, out=space[: len(block)]).abs_(), 1, out=line)
            return
        ones = torch.ones(self._memory.shape[1], _MULTIPLE, dtype=torch.int8)
        sums = torch.empty(rows, _MULTIPLE, dtype=torch.int32)
        for block, columns in zip(blocks, keys[:, : self.size].split(rows, 1), strict=True):
            for query, line in zip(queries, columns, strict=True):
                larger = torch.maximum(block, query, out=space[: len(block)])
                line.copy_(torch._int_mm(larger, ones, out=sums[: len(block)])[:, 0])
        keys[:, : self.size].mul_(2).sub_(self._sums).sub_(queries.sum(1, dtype=torch.int32)[:, None])


@lru_cache
def int8_product_pays(device: torch.device) -> bool:
    """Whether torch's own int8 product exists, works on this device, and has instructions of the processor behind it.

    It is a private function and may change or go; what is found without it is the same. It is not timed: on a busy
    machine a clock would say one thing today and another tomorrow.
    """
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randint(-128, 128, (rows, 1000), generator=generator).to(device, torch.int8) for rows in (_LEAST_ROWS, 64)
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


def _squared_lengths(vectors: Tensor, exact: bool) -> Tensor:
    """‖v‖² of each row (M, D): int32 if exact, else of the vectors' own type."""
    kind = torch.int32 if exact else vectors.dtype
    return torch.cat([chunk.to(kind).square().sum(1, dtype=kind) for chunk in vectors.split(_CHUNK)])


def _padded(rows: int) -> int:
    return max(_LEAST_ROWS, -(-rows // _MULTIPLE) * _MULTIPLE)


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
