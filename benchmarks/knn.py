"""Queries per second of exact nearest-neighbor search, and cross-validation of k, against scikit-learn and faiss.

    python -m benchmarks.knn [--root data] [--memory N] [--queries B] [--k K] [--rounds R] [--all] [--l1]

All search the same CIFAR-10 images (random bytes if the files are missing) with two threads and l2, after their
preparation: faiss has added its vectors, scikit-learn has been fitted, ours has memorized the images.

    uint8    ours gets uint8 pixels, the others float32, the type that they accept
    floats   ours gets float32 pixels in [0, 1] too; `matmul alone` is only a matrix product of the same sizes

First, the distances of uint8 are compared with int64 arithmetic, and with those of faiss and scikit-learn.
`cross-validation` is the accuracy of ten k in five folds of 5,000 images: ours searches once per fold, scikit-learn's
KNeighborsClassifier is fitted and scored for each fold and k. `--all` searches 10,000 queries once by l2, `--l1` by l1.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neighbors import NearestNeighbors as ScikitNeighbors
from torch import Tensor

from benchmarks.timing import Clock, Comparison, Rate, Variant
from datamodules import CIFAR10
from datamodules.files.official_files import CIFAR10_MEMBERS
from datamodules.splits import stratified_folds
from modules.neighbors.nearest_neighbors import Metric, NearestNeighbors
from modules.neighbors.votes import votes

THREADS = 2
FOLDS, SUBSET, CHOICES = 5, 5_000, (1, 3, 5, 8, 10, 12, 15, 20, 50, 100)
UINT8, FLOATS, MATMUL, SCIKIT, FAISS = "ours, uint8", "ours, floats", "matmul alone", "scikit-learn", "faiss"


def main(arguments: Sequence[str] | None = None) -> dict[str, Comparison]:
    parser = argparse.ArgumentParser(description="Queries per second of nearest-neighbor search.")
    parser.add_argument("--root", default="data", help="folder of the data sets")
    parser.add_argument("--memory", type=int, default=50_000, help="number of memorized images")
    parser.add_argument("--queries", type=int, default=1_000, help="number of queries")
    parser.add_argument("--k", type=int, default=100, help="number of neighbors")
    parser.add_argument("--subset", type=int, default=SUBSET, help="number of images of the cross-validation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="also search 10,000 queries by l2")
    parser.add_argument("--l1", action="store_true", help="also search 10,000 queries by l1")
    options = parser.parse_args(arguments)
    with threads(THREADS):
        images, labels = read(options.root, options.memory + options.queries)
        memory, queries = images[: options.memory], images[options.memory :]
        searches = build(memory, queries, options.k)
        check(searches, memory, queries)
        measured = {
            name: Variant(partial(rate, search, len(queries)), by_wall=True) for name, search in searches.items()
        }
        comparisons = {"search": Comparison(measured, options.rounds)}
        report("search", "queries/s", comparisons["search"], (SCIKIT, FAISS, MATMUL))
        del searches, measured
        comparisons["cross-validation"] = cross_validation(images[: options.subset], labels[: options.subset], options)
        report("cross-validation", "runs/s", comparisons["cross-validation"], (SCIKIT,))
        many = queries.repeat(-(-10_000 // len(queries)), 1)[:10_000]
        if options.all:
            once(memory, many, "l2", options.k)
        if options.l1:
            once(memory, many, "l1", options.k)
    return comparisons


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets the number of threads of torch, faiss and, through its thread pools, scikit-learn."""
    import faiss
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def read(root: str, count: int) -> tuple[Tensor, Tensor]:
    """Returns `count` images as vectors (N, D) uint8, and labels (N,): training images, then test images."""
    if not all((Path(root) / "cifar-10-batches-py" / name).is_file() for name in CIFAR10_MEMBERS):
        print(f"No CIFAR-10 files in {root}: measuring on random bytes instead.")
        return torch.randint(256, (count, 3072)).to(torch.uint8), torch.randint(10, (count,))
    data = CIFAR10(root=root, val_fraction=0.0)
    for stage in ("validate", "test"):
        data.setup(stage)
    images, labels = (
        torch.cat(parts) for parts in zip(*(data.splits[name] for name in ("train", "test")), strict=True)
    )
    return images[:count].flatten(1), labels[:count]


def build(memory: Tensor, queries: Tensor, k: int) -> dict[str, Callable[[], Any]]:
    """Returns all searches, prepared: each returns distances and indices, both (B, k)."""
    import faiss

    float_memory, float_queries = memory.float() / 255, queries.float() / 255
    pixels, floats = NearestNeighbors(memory), NearestNeighbors(float_memory)
    index = faiss.IndexFlatL2(memory.shape[1])
    index.add(memory.float().numpy())
    scikit = ScikitNeighbors(n_neighbors=k, algorithm="brute", n_jobs=THREADS).fit(memory.float().numpy())
    pixel_queries = queries.float().numpy()
    product = torch.empty(len(queries), len(memory))
    return {
        SCIKIT: lambda: scikit.kneighbors(pixel_queries),
        FAISS: lambda: index.search(pixel_queries, k),
        UINT8: lambda: pixels.search(queries, k),
        FLOATS: lambda: floats.search(float_queries, k),
        MATMUL: lambda: torch.mm(float_queries, float_memory.mT, out=product),
    }


def check(searches: dict[str, Callable[[], Any]], memory: Tensor, queries: Tensor) -> None:
    """Compares the uint8 search with int64 arithmetic, and the distances of all other searches with it.

    Raises:
        AssertionError: If a distance of pixels is not exact, or one of another search is not close to it.
    """
    distances, indices = searches[UINT8]()
    for query, nearest, neighbors in zip(queries[:50].long(), distances[:50], indices[:50], strict=True):
        squared = torch.cat([(chunk.long() - query).square().sum(1) for chunk in memory.split(2_000)])
        order = squared.sort(stable=True)
        assert torch.equal(nearest.square().round().long(), order.values[: len(nearest)]), "a distance is not exact"
        assert torch.equal(neighbors, order.indices[: len(nearest)]), "the order of neighbors is wrong"
    for name, scale, power in ((SCIKIT, 1, 1), (FAISS, 1, 0.5), (FLOATS, 255, 1)):
        others = torch.as_tensor(searches[name]()[0]).double() ** power * scale
        assert ((others - distances).abs() / distances.clamp(min=100)).max() < 1e-3, f"{name} returns other distances"


def rate(run: Callable[[], Any], count: int) -> Rate:
    started = Clock.now()
    run()
    return Rate.of(count, Clock.now() - started)


def cross_validation(images: Tensor, labels: Tensor, options: argparse.Namespace) -> Comparison:
    """Compares the cross-validation of ten k in five folds, ours and scikit-learn's."""
    folds = stratified_folds(labels, FOLDS, seed=0)
    choices = [k for k in CHOICES if k <= len(images) // 2]

    def ours() -> Tensor:
        accuracies = []
        for fold in range(FOLDS):
            held, kept = folds == fold, folds != fold
            distances, indices = NearestNeighbors(images[kept]).search(images[held], max(choices))
            _, winners = votes(distances, labels[kept][indices], 10, "majority")
            accuracies.append((winners == labels[held][:, None]).double().mean(0)[[k - 1 for k in choices]])
        return torch.stack(accuracies)  # (folds, choices)

    float_images, classes = images.float().numpy(), labels.numpy()

    def scikit() -> Tensor:
        accuracies = torch.empty(FOLDS, len(choices), dtype=torch.float64)
        for fold in range(FOLDS):
            held, kept = (folds == fold).numpy(), (folds != fold).numpy()
            for i, k in enumerate(choices):
                model = KNeighborsClassifier(k, algorithm="brute", n_jobs=THREADS).fit(
                    float_images[kept], classes[kept]
                )
                accuracies[fold, i] = model.score(float_images[held], classes[held])
        return accuracies

    # They break ties of votes differently, so single predictions differ.
    assert (ours() - scikit()).abs().max() < 0.1, "the accuracies differ by more than ties of votes explain"
    variants = {name: Variant(partial(rate, run, 1), by_wall=True) for name, run in ((SCIKIT, scikit), (UINT8, ours))}
    return Comparison(variants, min(options.rounds, 3))


def once(memory: Tensor, queries: Tensor, metric: Metric, k: int) -> None:
    search = NearestNeighbors(memory, metric)
    started = Clock.now()
    search.search(queries, k)
    time = Clock.now() - started
    print(f"{metric}: {len(queries):,} × {len(memory):,} × {memory.shape[1]:,}, k {k}: {time.wall:.1f} s wall time")


def report(title: str, unit: str, comparison: Comparison, references: Sequence[str]) -> None:
    print(f"\n{title:<18}{unit:>10}   " + "".join(f"× {name:<24}" for name in references))
    for name in comparison.variants:
        ratios = (f"{comparison.ratio(name, other)!s:<26}" for other in references)
        print(f"{name:<18}{comparison.rate(name):>10,.2f}   " + "".join(ratios))


if __name__ == "__main__":
    main()
