"""The fast search against the page's, scikit-learn and a stable sort, for all metrics, input types and chunk sizes."""

from typing import get_args

import pytest
import torch
from sklearn.neighbors import NearestNeighbors as ScikitNeighbors
from torch import Tensor

from modules.neighbors import nearest_neighbors
from modules.neighbors.int8_product import int8_product_pays
from modules.neighbors.k_nearest_neighbors import find_neighbors
from modules.neighbors.nearest_neighbors import Metric, NearestNeighbors
from modules.neighbors.topk import stable_topk

METRICS = get_args(Metric)


def pixels(count: int, *shape: int, seed: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(high, (count, *shape), generator=generator).to(torch.uint8)


def sorted_by_loops(queries: Tensor, memory: Tensor, metric: Metric, k: int) -> tuple[Tensor, Tensor]:
    """Every distance from its definition in float64, which holds those of pixels exactly under l1 and l2 squared."""
    q, m = queries.flatten(1).double(), memory.flatten(1).double()
    if metric == "l1":
        distances = torch.stack([(m - one).abs().sum(1) for one in q])
    elif metric == "l2":
        distances = torch.stack([(m - one).square().sum(1) for one in q]).sqrt()
    else:
        distances = torch.stack([1 - (m @ one) / (m.norm(dim=1) * one.norm()) for one in q])
    nearest, indices = distances.sort(dim=1, stable=True)
    return nearest[:, :k], indices[:, :k]


@pytest.fixture(params=["int8 product", "float32 products"])
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Searches pixels both with torch's int8 product and without it."""
    usable = request.param == "int8 product"
    monkeypatch.setattr(nearest_neighbors, "int8_product_pays", lambda device: usable)
    return str(request.param)


def assert_equal_to_the_page(queries: Tensor, memory: Tensor, metric: Metric, k: int, tolerance: float) -> None:
    """Compares the engine with `find_neighbors`, whose order of neighbors at equal distance is arbitrary."""
    distances, indices = NearestNeighbors(memory, metric).search(queries, k)
    q, m = queries.flatten(1), memory.flatten(1)
    by_page, page_indices = find_neighbors(q, m, k, metric)
    assert distances.dtype == by_page.dtype == torch.float64
    assert indices.dtype == page_indices.dtype == torch.int64
    torch.testing.assert_close(distances, by_page, rtol=tolerance, atol=tolerance)
    # The distances of the neighbors that the engine returns, from the page's distances to all memorized vectors.
    all_distances, all_indices = find_neighbors(q, m, len(m), metric)
    of_index = torch.empty_like(all_distances).scatter_(1, all_indices, all_distances)
    torch.testing.assert_close(of_index.gather(1, indices), distances, rtol=tolerance, atol=tolerance)
    following = all_distances[:, 1 : k + 1]
    following = torch.cat([following, following.new_full((len(q), k - following.shape[1]), torch.inf)], 1)
    unique = (by_page.diff(dim=1, prepend=by_page[:, :1] - 1) > tolerance) & (following - by_page > tolerance)
    assert torch.equal(indices[unique], page_indices[unique])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("high", [2, 4, 256])  # with ties, and almost without
def test_the_engine_equals_the_page_on_pixels(product: str, metric: Metric, seed: int, high: int) -> None:
    memory, queries = pixels(300, 2, 3, seed=seed, high=high), pixels(40, 2, 3, seed=9 + seed, high=high)
    memory, queries = (t[t.bool().flatten(1).any(1)] for t in (memory, queries))  # cosine refuses zeros
    for k in (1, 7, len(memory)):
        # Pixels are exact under l1 and l2; cosine rounds unit vectors to float32.
        assert_equal_to_the_page(queries, memory, metric, k, 1e-6 if metric == "cosine" else 0.0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_engine_equals_the_page_on_floats(metric: Metric, dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    memory = torch.randn(400, 3, 5, dtype=dtype, generator=generator)
    memory[200:300] = memory[:100]  # ties
    queries = torch.randn(30, 3, 5, dtype=dtype, generator=generator)
    for k in (1, 9, 400):
        assert_equal_to_the_page(queries, memory, metric, k, tolerance)


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize(("count", "shape"), [(1, (3, 4, 4)), (9, (5,)), (300, (1, 3, 7)), (700, (3, 20, 21))])
def test_pixels_are_exact(product: str, metric: Metric, count: int, shape: tuple[int, ...]) -> None:
    memory, queries = pixels(count, *shape), pixels(31, *shape, seed=1)
    memory[0], queries[0] = 0, 255  # the largest possible distance
    for k in {1, (count + 1) // 2, count}:
        distances, indices = NearestNeighbors(memory, metric).search(queries, k)
        expected, order = sorted_by_loops(queries, memory, metric, k)
        assert distances.dtype == torch.float64
        assert torch.equal(distances, expected)
        assert torch.equal(indices, order)


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("high", [1, 2, 3])
def test_neighbors_at_equal_distance_come_in_the_order_of_the_memory(product: str, metric: Metric, high: int) -> None:
    memory, queries = pixels(900, 4, high=high), pixels(50, 4, seed=1, high=high)
    for k in (1, 7, 100, 899, 900):
        distances, indices = NearestNeighbors(memory, metric).search(queries, k)
        expected, order = sorted_by_loops(queries, memory, metric, k)
        assert torch.equal(distances, expected)
        assert torch.equal(indices, order)


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("limit", [1, 5_000, 50_000, 2**20])
def test_results_do_not_depend_on_how_many_queries_are_searched_at_a_time(
    product: str, metric: Metric, limit: int
) -> None:
    memory, queries = pixels(400, 6, high=4), pixels(90, 6, seed=1, high=4)
    whole = NearestNeighbors(memory, metric).search(queries, 12)
    search = NearestNeighbors(memory, metric, memory_limit=limit)
    for result in (
        search.search(queries, 12),
        [torch.cat(p) for p in zip(*(search.search(q, 12) for q in queries.split(7)), strict=True)],
    ):
        assert torch.equal(result[0], whole[0])
        assert torch.equal(result[1], whole[1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_equal_definition_and_scikit_learn(metric: Metric, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    memory, queries = torch.randn(500, 3, 5, 5, dtype=dtype), torch.randn(40, 3, 5, 5, dtype=dtype)
    distances, indices = NearestNeighbors(memory, metric, memory_limit=20_000).search(queries, 20)
    expected, order = sorted_by_loops(queries, memory, metric, 20)
    torch.testing.assert_close(distances, expected, rtol=1e-5, atol=1e-6)
    assert (indices == order).double().mean() > 0.99  # rounding may swap neighbors
    reference = ScikitNeighbors(n_neighbors=20, metric={"l1": "manhattan", "l2": "euclidean"}.get(metric, metric))
    by_scikit, _ = reference.fit(memory.flatten(1).double().numpy()).kneighbors(queries.flatten(1).double().numpy())
    torch.testing.assert_close(distances, torch.from_numpy(by_scikit), rtol=1e-5, atol=1e-6)


def test_cosine_converts_pixels_to_floats() -> None:
    memory, queries = pixels(300, 3, 4, 4), pixels(20, 3, 4, 4, seed=1)
    distances, indices = NearestNeighbors(memory, "cosine").search(queries, 10)
    expected, order = sorted_by_loops(queries, memory, "cosine", 10)
    torch.testing.assert_close(distances, expected, rtol=1e-5, atol=1e-7)
    assert (indices == order).double().mean() > 0.99


def test_near_and_equal_floats_keep_their_digits_far_from_the_origin() -> None:
    """‖q‖² − 2 q·m + ‖m‖² is 10⁷ − 10⁷ here."""
    torch.manual_seed(0)
    memory = 100 + torch.randn(60, 1000)
    queries = memory[:20] + 1e-3 * torch.randn(20, 1000)
    queries[:5] = memory[:5]
    distances, indices = NearestNeighbors(memory).search(queries, 3)
    differences = queries[:, None].double() - memory[indices].double()
    torch.testing.assert_close(distances, differences.square().sum(2).sqrt(), rtol=1e-9, atol=0)
    assert (distances.diff(dim=1) >= 0).all()
    assert indices[:, 0].tolist() == list(range(20))
    assert distances[:5, 0].tolist() == [0.0] * 5


def test_parallel_vectors_have_cosine_distance_zero() -> None:
    torch.manual_seed(0)
    memory = torch.randn(50, 300)
    distances, indices = NearestNeighbors(memory, "cosine").search(3.7 * memory, 2)
    assert distances[:, 0].tolist() == [0.0] * 50
    assert indices[:, 0].tolist() == list(range(50))
    assert (distances[:, 1] > 0.1).all()


@pytest.mark.parametrize("k", [1, 5, 40, 1999, 2000])
@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_stable_topk_equals_a_stable_sort(k: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(k)
    for levels in (1, 3, 500, 10**6):
        keys = torch.randint(-levels, levels, (40, 2000), generator=generator).to(dtype)
        expected = keys.sort(dim=1, stable=True).indices[:, :k].sort(1).values
        assert torch.equal(stable_topk(keys, k), expected)


def test_vectors_of_pixels_too_long_for_int32_are_converted_to_floats() -> None:
    memory, queries = pixels(4, 50_000), pixels(2, 50_000, seed=1)
    distances, indices = NearestNeighbors(memory).search(queries, 4)
    expected, order = sorted_by_loops(queries, memory, "l2", 4)
    torch.testing.assert_close(distances, expected, rtol=1e-5, atol=0)
    assert torch.equal(indices, order)


def test_the_number_of_threads_is_restored() -> None:
    threads = torch.get_num_threads()
    NearestNeighbors(pixels(50, 8), "l1").search(pixels(3, 8), 1)
    assert torch.get_num_threads() == threads


def test_a_processor_without_int8_instructions_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    for names, pays in ({"avx2": True}, False), ({"avx2": True, "avx512_vnni": True}, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda names=names: names, raising=False)
        int8_product_pays.cache_clear()
        assert int8_product_pays(torch.device("cpu")) is pays
    int8_product_pays.cache_clear()


def test_a_missing_int8_product_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_int_mm")
    int8_product_pays.cache_clear()
    assert not int8_product_pays(torch.device("cpu"))
    int8_product_pays.cache_clear()


@pytest.mark.parametrize("k", [0, -1, 6])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"^k is {k}; it must be in \\[1, 5\\], the number of memorized vectors\\.$"):
        NearestNeighbors(pixels(5, 4)).search(pixels(2, 4), k)


def test_queries_of_another_size_or_type_than_the_memory() -> None:
    search = NearestNeighbors(pixels(5, 3, 2, 2))
    message = r"^A query has {} values of {}, but a memorized vector has 12 of uint8; give both the same shape and "
    with pytest.raises(ValueError, match=message.format(27, "uint8")):
        search.search(pixels(2, 3, 3, 3), 1)
    with pytest.raises(ValueError, match=message.format(12, "float32")):
        search.search(torch.rand(2, 3, 2, 2), 1)


@pytest.mark.parametrize("index", [0, 3, 99])
def test_zero_vectors_have_no_cosine(index: int) -> None:
    vectors = torch.rand(100, 6) + 0.1
    search = NearestNeighbors(vectors, "cosine")
    zeros = vectors.clone()
    zeros[index] = 0
    with pytest.raises(ValueError, match=f"^Query {index} is all zeros, so it has no direction"):
        search.search(zeros, 1)
    with pytest.raises(ValueError, match=f"^Memorized vector {index} is all zeros, so it has no direction"):
        NearestNeighbors(zeros, "cosine")


def test_invalid_settings() -> None:
    with pytest.raises(ValueError, match=r"^metric is 'l3'; it must be one of l1, l2, cosine\.$"):
        NearestNeighbors(pixels(3, 2), "l3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^The memory is empty; give at least one vector to memorize\.$"):
        NearestNeighbors(pixels(0, 2))
    with pytest.raises(ValueError, match=r"^memory_limit is 0; it must be at least 1 byte"):
        NearestNeighbors(pixels(3, 2), memory_limit=0)
