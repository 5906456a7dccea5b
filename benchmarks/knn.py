"""Queries a second of exact nearest-neighbor search, and cross-validation over k, against scikit-learn and faiss.

    python -m benchmarks.knn [--root data] [--memory N] [--queries B] [--k K] [--rounds R] [--all] [--l1]

All search the same CIFAR-10 images (random bytes if the files are not there) with two threads under l2, what each takes
for granted done before: faiss has added its vectors, scikit-learn has been fitted, ours has prepared its memory.

    uint8    ours gets the pixels as they are, the others as the float32 that they take
    floats   ours gets float32 pixels in [0, 1] too; `matmul alone` is the matrix product of the same sizes and no more

Before that the distances of uint8 are compared with int64 arithmetic, and with those of faiss and scikit-learn.
`cross-validation` is the accuracy of ten k in five folds of 5,000 images: ours searches once a fold, scikit-learn's
KNeighborsClassifier is fitted and asked for each fold and k. `--all` searches 10,000 queries once by l2, `--l1` by l1.
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
    parser = argparse.ArgumentParser(description="Queries a second of nearest-neighbor search.")
    parser.add_argument("--root", default="data", help="folder of the data files")
    parser.add_argument("--memory", type=int, default=50_000, help="images memorized")
    parser.add_argument("--queries", type=int, default=1_000, help="images searched")
    parser.add_argument("--k", type=int, default=100, help="neighbors of each")
    parser.add_argument("--subset", type=int, default=SUBSET, help="images of the cross-validation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="search 10,000 queries by l2 too")
    parser.add_argument("--l1", action="store_true", help="search 10,000 queries by l1 too")
    options = parser.parse_args(arguments)
    with threads(THREADS):
        images, labels = read(options.root, options.memory + options.queries)
        memory, queries = images[: options.memory], images[options.memory :]
        searches = build(memory, queries, options.k)
        check(searches, memory, queries)
        measured = {name: Variant(partial(rate, work, len(queries)), by_wall=True) for name, work in searches.items()}
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
    """torch, faiss and, through its pools, scikit-learn on so many threads."""
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
    """So many images as vectors (N, D) uint8, and labels (N,); test images follow where the training images end."""
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
    """All searches, ready: each gives distances and places, both (B, k)."""
    import faiss

    as_floats, asked = memory.float() / 255, queries.float() / 255
    pixels, floats = NearestNeighbors(memory), NearestNeighbors(as_floats)
    index = faiss.IndexFlatL2(memory.shape[1])
    index.add(memory.float().numpy())
    scikit = ScikitNeighbors(n_neighbors=k, algorithm="brute", n_jobs=THREADS).fit(memory.float().numpy())
    bytes_as_floats = queries.float().numpy()
    product = torch.empty(len(queries), len(memory))
    return {
        SCIKIT: lambda: scikit.kneighbors(bytes_as_floats),
        FAISS: lambda: index.search(bytes_as_floats, k),
        UINT8: lambda: pixels.search(queries, k),
        FLOATS: lambda: floats.search(asked, k),
        MATMUL: lambda: torch.mm(asked, as_floats.mT, out=product),
    }


def check(searches: dict[str, Callable[[], Any]], memory: Tensor, queries: Tensor) -> None:
    """Compares what the searches find with int64 arithmetic, and all distances with ours.

    Raises:
        AssertionError: a distance of pixels that is not exact, or of another search that is not close to it.
    """
    distances, places = searches[UINT8]()
    for query, near, found in zip(queries[:50].long(), distances[:50], places[:50], strict=True):
        squared = torch.cat([(chunk.long() - query).square().sum(1) for chunk in memory.split(2_000)])
        order = squared.sort(stable=True)
        assert torch.equal(near.square().round().long(), order.values[: len(near)]), "a distance is not exact"
        assert torch.equal(found, order.indices[: len(near)]), "a neighbor is not in its place"
    for name, scale, power in ((SCIKIT, 1, 1), (FAISS, 1, 0.5), (FLOATS, 255, 1)):
        others = torch.as_tensor(searches[name]()[0]).double() ** power * scale
        assert ((others - distances).abs() / distances.clamp(min=100)).max() < 1e-3, f"{name} finds other distances"


def rate(work: Callable[[], Any], things: int) -> Rate:
    started = Clock.now()
    work()
    return Rate.of(things, Clock.now() - started)


def cross_validation(images: Tensor, labels: Tensor, options: argparse.Namespace) -> Comparison:
    """The same ten accuracies both ways: in five folds, of every k."""
    folds = stratified_folds(labels, FOLDS, seed=0)
    choices = [k for k in CHOICES if k <= len(images) // 2]

    def ours() -> Tensor:
        accuracies = []
        for fold in range(FOLDS):
            held, kept = folds == fold, folds != fold
            distances, places = NearestNeighbors(images[kept]).search(images[held], max(choices))
            _, winners = votes(distances, labels[kept][places], 10, "majority")
            accuracies.append((winners == labels[held][:, None]).double().mean(0)[[k - 1 for k in choices]])
        return torch.stack(accuracies)  # (folds, choices)

    as_floats, as_classes = images.float().numpy(), labels.numpy()

    def scikit() -> Tensor:
        accuracies = torch.empty(FOLDS, len(choices), dtype=torch.float64)
        for fold in range(FOLDS):
            held, kept = (folds == fold).numpy(), (folds != fold).numpy()
            for i, k in enumerate(choices):
                model = KNeighborsClassifier(k, algorithm="brute", n_jobs=THREADS).fit(
                    as_floats[kept], as_classes[kept]
                )
                accuracies[fold, i] = model.score(as_floats[held], as_classes[held])
        return accuracies

    # They settle ties of votes differently, so single images differ.
    assert (ours() - scikit()).abs().max() < 0.1, "the accuracies differ by more than ties of votes explain"
    ways = {SCIKIT: scikit, UINT8: ours}
    return Comparison(
        {name: Variant(partial(rate, way, 1), by_wall=True) for name, way in ways.items()}, min(options.rounds, 3)
    )


def once(memory: Tensor, queries: Tensor, metric: Metric, k: int) -> None:
    search = NearestNeighbors(memory, metric)
    started = Clock.now()
    search.search(queries, k)
    taken = Clock.now() - started
    print(f"{metric}: {len(queries):,} × {len(memory):,} × {memory.shape[1]:,}, k {k}: {taken.wall:.1f} s by the wall")


def report(title: str, unit: str, comparison: Comparison, references: Sequence[str]) -> None:
    print(f"\n{title:<18}{unit:>10}   " + "".join(f"× {name:<24}" for name in references))
    for name in comparison.variants:
        ratios = (f"{comparison.ratio(name, other)!s:<26}" for other in references)
        print(f"{name:<18}{comparison.rate(name):>10,.2f}   " + "".join(ratios))


if __name__ == "__main__":
    main()
