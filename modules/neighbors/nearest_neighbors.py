"""Fast exact search for nearest neighbors; it finds what `k_nearest_neighbors.find_neighbors` defines.

    l1      Σ |q_d − m_d|                                              (`l1_distances.py`)
    l2      √(‖q‖² − 2 q·m + ‖m‖²), whose middle term is one matrix product
    cosine  1 − q·m / (‖q‖ ‖m‖), half the squared l2 distance of the vectors divided by their norms

Source: https://cs231n.github.io/classification/#nearest-neighbor-classifier

Distances of uint8 pixels are exact under l1 and l2, from products of int8 (`int8_product.py`) or of float32 over so few
values that every sum is exact. Neighbors are sorted by distance, those at equal distance by their index in the memory
(`topk.py`), so the result for pixels depends on nothing else. Distances of floats are rounded: the order of vectors
that are almost equally far away may depend on the number of queries searched at a time.

Shapes: N memorized vectors, B queries, D values of one vector, k neighbors.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from common.errors import UserError
from common.ranges import check_range
from modules.base.half_precision import at_least_float32
from modules.neighbors.int8_product import int8_product_pays, padded_rows, to_int8
from modules.neighbors.l1_distances import l1_distances
from modules.neighbors.topk import stable_topk

Metric = Literal["l1", "l2", "cosine"]

_INT32_VALUES = 43_000  # D up to which ‖m‖² − 2 q·m of int8 vectors, at most 3·2¹⁴·D, fits into int32
_FLOAT32_SUMMANDS = 1024  # products of int8, at most 2¹⁴ each, whose sum is exact in float32, at most 2²⁴
_FLOAT32_PIXELS = 65_000  # D up to which Σ |q − m| of pixels is exact in float32
_BLOCK = 1024  # memorized vectors multiplied by all queries at a time, so that their sums stay in the cache
_CHUNK = 64  # vectors converted to another type at a time, so that they stay in the cache
_CANCELLATION = 0.01  # fraction of ‖q‖² + ‖m‖² below which their difference has lost two of float32's seven digits
_PARALLEL = 1e-14  # cosine distance that rounding to float32 may leave between parallel vectors


class NearestNeighbors:
    """Memorized vectors, prepared for search on their device.

    Args:
        memory: Vectors (N, ...), N ≥ 1, uint8 pixels or floats.
        metric: Distance: l1, l2 or cosine. l2 of pixels is exact up to 43,000 values each; cosine converts to floats.
        memory_limit: Bytes of distances held at a time, ≥ 1, besides the memory; one query is searched in any case.

    Raises:
        ValueError: If the metric is unknown, the limit is below 1, the memory is empty, or it contains a zero vector
            under cosine.
    """

    def __init__(self, memory: Tensor, metric: Metric = "l2", memory_limit: int = 2**28) -> None:
        accepted = get_args(Metric)
        check_range("metric", repr(metric), metric in accepted, f"one of {', '.join(accepted)}")
        check_range("memory_limit", memory_limit, memory_limit >= 1, "at least 1 byte, such as 2**28")
        if not len(memory):
            raise UserError("The memory is empty; give at least one vector to memorize.")
        self.metric, self.memory_limit = metric, memory_limit
        self.size, self.dtype, self.values = len(memory), memory.dtype, memory[0].numel()
        on_cpu = memory.device.type == "cpu"
        self._exact = memory.dtype == torch.uint8 and metric != "cosine" and self.values <= _INT32_VALUES
        # On a GPU the blocks of l1 would be too small to keep it busy.
        self._int8 = self._exact and (on_cpu or metric == "l2") and int8_product_pays(memory.device)
        self._memory = self._prepare(self._vectors(memory, "Memorized vector"))  # (≥ N, ≥ D)
        self._sort_keys = torch.empty(0)  # space for distances, or what sorts as they do
        if metric != "l1":
            self._squared_norms = _squared_norms(self._memory, self._exact)[: self.size]  # (N,)
        self._sums: Tensor | None = None
        if metric == "l1" and self._int8:
            self._sums = self._memory.sum(1, dtype=torch.int32)[: self.size]  # (N,)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Finds the k nearest memorized vectors of each query, nearest first.

        Args:
            queries: Vectors (B, ...) of D values each, uint8 if the memory is, on the memory's device.
            k: Number of neighbors, in [1, N].

        Returns:
            Distances (B, k) float64 and indices into the memory (B, k) int64.

        Raises:
            ValueError: If k is out of range, the queries have another size or type than the memory, or one of them is
                a zero vector under cosine.
        """
        check_range("k", k, 1 <= k <= self.size, f"in [1, {self.size}], the number of memorized vectors")
        values = queries.shape[1:].numel()
        if values != self.values or (queries.dtype == torch.uint8) != (self.dtype == torch.uint8):
            query_type, memory_type = (str(dtype).removeprefix("torch.") for dtype in (queries.dtype, self.dtype))
            raise UserError(
                f"A query has {values} values of {query_type}, but a memorized vector has {self.values} of "
                f"{memory_type}; give both the same shape and preprocessing."
            )
        queries = self._vectors(queries, "Query")
        dtype = torch.int32 if self._int8 or (self._exact and self.metric == "l2") else self._memory.dtype
        parts = 0 if self._int8 or not self._exact else min(_BLOCK, len(self._memory))  # products beside their sum
        per_query = (len(self._memory) + 2 * parts) * dtype.itemsize
        rows = max(1, min(self.memory_limit // per_query, len(queries)))
        if len(self._sort_keys) < padded_rows(rows):
            # Kept for the next search: mapping the pages of a new array takes as long as the top-k of it.
            with torch.inference_mode(False):
                self._sort_keys = torch.empty(padded_rows(rows), len(self._memory), dtype=dtype, device=queries.device)
        results = [self._search(chunk, k, self._sort_keys) for chunk in queries.split(rows)]
        distances, indices = (torch.cat(parts) for parts in zip(*results, strict=True))
        return distances, indices

    def _vectors(self, inputs: Tensor, name: str) -> Tensor:
        """Returns (M, ...) as vectors (M, D): exact pixels unchanged, others as floats, of norm 1 for cosine."""
        vectors = inputs.flatten(1)
        if self._exact:
            return vectors
        vectors = at_least_float32(vectors)
        if self.metric != "cosine":
            return vectors
        unit_vectors = torch.empty_like(vectors)
        for start in range(0, len(vectors), _CHUNK):
            chunk = vectors[start : start + _CHUNK].double()  # so that equal vectors are rounded to equal ones
            norms = chunk.square().sum(1, keepdim=True).sqrt()
            if not norms.all():
                index = start + int(norms.flatten().argmin())
                raise UserError(
                    f"{name} {index} is all zeros, so it has no direction to compare by cosine; leave it out or "
                    "choose metric l1 or l2."
                )
            unit_vectors[start : start + _CHUNK] = chunk.div_(norms)
        return unit_vectors

    def _prepare(self, vectors: Tensor) -> Tensor:
        """Returns vectors (M, D) as the products take them: exact ones minus 128, and int8 ones padded with zeros."""
        if not self._exact:
            return vectors
        if self._int8:
            return to_int8(vectors)
        wide = self.metric == "l1" and self.values > _FLOAT32_PIXELS
        return vectors.to(torch.float64 if wide else torch.float32) - 128

    def _search(self, queries: Tensor, k: int, sort_keys: Tensor) -> tuple[Tensor, Tensor]:
        """Searches one chunk of queries (B, D) as `search`; overwrites `sort_keys`, at least (B, N)."""
        rows, queries = len(queries), self._prepare(queries)
        if self.metric == "l1":
            sort_keys = self._l1(queries[:rows], sort_keys[:rows, : self.size])
        else:
            sort_keys = self._l2(queries, sort_keys[: len(queries)])[:rows]
        indices = stable_topk(sort_keys, k)
        distances = sort_keys.gather(1, indices).double()
        if self.metric != "l1":
            squared_norms = _squared_norms(queries, self._exact)[:rows, None]
            distances = (distances + squared_norms).clamp(min=0)
            if not self._exact:
                self._recompute_cancelled(distances, queries, indices, squared_norms)
            if self.metric == "l2":
                distances = distances.sqrt()
            else:
                distances = torch.where(distances < 2 * _PARALLEL, 0, distances / 2)
        distances, order = distances.sort(dim=1, stable=True)  # stable: equal ones stay in the order of the memory
        return distances, indices.gather(1, order)

    def _l1(self, queries: Tensor, out: Tensor) -> Tensor:
        """Returns Σ |q − m|, (B, N): on a CPU written into `out`."""
        if out.device.type != "cpu":
            return torch.cdist(queries, self._memory, p=1)
        return l1_distances(queries, self._memory[: self.size], self._sums, out)

    def _l2(self, queries: Tensor, out: Tensor) -> Tensor:
        """Writes ‖m‖² − 2 q·m, which sorts as the distances do, into `out` and returns it."""
        used = out[:, : self.size]
        if self._int8:
            torch._int_mm(queries, self._memory.mT, out=out)
            return torch.add(self._squared_norms, used, alpha=-2, out=used)
        if not self._exact:
            return torch.addmm(self._squared_norms, queries, self._memory.mT, alpha=-2, out=used)
        used.copy_(self._squared_norms)
        space = queries.new_empty(len(queries) * min(_BLOCK, self.size))
        for block, sums in zip(self._memory.split(_BLOCK), used.split(_BLOCK, 1), strict=True):
            product = space[: len(queries) * len(block)].view(len(queries), len(block))
            parts = (tensor.split(_FLOAT32_SUMMANDS, 1) for tensor in (queries, block))
            for query_part, memory_part in zip(*parts, strict=True):
                sums.add_(torch.mm(query_part, memory_part.mT, out=product).int(), alpha=-2)
        return used

    def _recompute_cancelled(self, squared: Tensor, queries: Tensor, indices: Tensor, squared_norms: Tensor) -> None:
        """Recomputes squared distances (B, k) that are small differences of large numbers from q − m, in place."""
        cancelled = squared < _CANCELLATION * (squared_norms + self._squared_norms[indices])
        rows, columns = cancelled.nonzero(as_tuple=True)
        step = max(1, self.memory_limit // (16 * self.values))
        for r, c in zip(rows.split(step), columns.split(step), strict=True):
            squared[r, c] = (queries[r].double() - self._memory[indices[r, c]]).square().sum(1)


def _squared_norms(vectors: Tensor, exact: bool) -> Tensor:
    """Returns ‖v‖² of each vector (M, D): int32 if exact, otherwise of the vectors' type."""
    dtype = torch.int32 if exact else vectors.dtype
    return torch.cat([chunk.to(dtype).square().sum(1, dtype=dtype) for chunk in vectors.split(_CHUNK)])
