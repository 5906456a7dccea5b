"""Speed of SimCLR's pairs of views and of NT-Xent, against torchvision and lightly.

    python -m benchmarks.simclr [--root data] [--images N] [--rounds R] [--batch_size B] [--threads T]

views      images per second, shuffled, two standardized views of each: torchvision's RandomResizedCrop,
           RandomHorizontalFlip, ColorJitter, RandomGrayscale, ToTensor and Normalize twice on each image, in a
           DataLoader with no and with two workers, against our batches on one thread (--threads); CIFAR-10, or drawn
           Shapes if its files are missing. By wall time, from the first batch on.
NT-Xent    forward and backward passes per second at 2N = 1024 and D = 128, by CPU time on one thread, against
           lightly's loss, which is left out if lightly is not installed. First, values and gradients are compared.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.input_pipeline import InMemory, Ours
from benchmarks.timing import Clock, Comparison, Rate, Variant, one_thread
from datamodules import CIFAR10, ImageDataModule, Shapes
from datamodules.files.official_files import CIFAR10_MEMBERS
from datamodules.images.two_views import TwoViews
from modules.contrastive.nt_xent import NTXent
from pipelines.run.allocator import keep_freed_memory

NO_WORKERS, TWO_WORKERS, OURS = "torchvision, 0 workers", "torchvision, 2 workers", "ours"
LIGHTLY = "lightly"
_IMAGES, _WIDTH, _PASSES = 512, 128, 20  # N and D of NT-Xent, and passes per measurement


def main(arguments: Sequence[str] | None = None) -> dict[str, Comparison]:
    parser = argparse.ArgumentParser(description="Speed of two views and of NT-Xent.")
    parser.add_argument("--root", default="data", help="folder of the data sets")
    parser.add_argument("--images", type=int, default=5_000, help="images per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1, help="number of threads of our views")
    options = parser.parse_args(arguments)
    comparisons = {"views": views(options), "NT-Xent": nt_xent(options.rounds)}
    report("views", "images/s", comparisons["views"], (NO_WORKERS, TWO_WORKERS))
    report("NT-Xent", "passes/s", comparisons["NT-Xent"], (LIGHTLY,))
    return comparisons


def views(options: argparse.Namespace) -> Comparison:
    """Compares images per second, two views of each."""
    present = all(
        (CIFAR10(root=options.root).root / "cifar-10-batches-py" / name).is_file() for name in CIFAR10_MEMBERS
    )
    if not present:
        print(f"No CIFAR-10 files in {options.root}: measuring on drawn Shapes images instead.")
    settings: dict[str, Any] = {"batch_size": options.batch_size, "two_views": TwoViews()}
    data: ImageDataModule = CIFAR10(root=options.root, **settings) if present else Shapes(**settings)
    ours = Ours(data)
    twice = Twice(data)
    measured = {
        NO_WORKERS: partial(images_a_second, by_image(data, twice, options.batch_size, 0), options, threads=1),
        TWO_WORKERS: partial(images_a_second, by_image(data, twice, options.batch_size, 2), options, threads=1),
        OURS: partial(images_a_second, ours, options, threads=options.threads),
    }
    check({name: next(iter(loader)) for name, loader in ((NO_WORKERS, measured[NO_WORKERS].args[0]), (OURS, ours))})
    return Comparison({name: Variant(measure, by_wall=True) for name, measure in measured.items()}, options.rounds)


class Twice:
    """Applies torchvision's transforms twice to an image; returns (2, 3, 32, 32)."""

    def __init__(self, data: ImageDataModule) -> None:
        scale, shift = (data.preprocessing.fitted[name].flatten() for name in ("scale", "shift"))
        std = 1 / (255 * scale)
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(data.image_shape[-1]),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                transforms.RandomGrayscale(0.2),
                transforms.ToTensor(),
                transforms.Normalize((-shift * std).tolist(), std.tolist()),
            ]
        )

    def __call__(self, image: Any) -> Tensor:
        return torch.stack([self.transform(image), self.transform(image)])


def by_image(data: ImageDataModule, twice: Twice, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Returns the loader that one would write with torchvision."""
    images = InMemory(*data.splits["train"], twice)
    return DataLoader(
        images, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )


def images_a_second(batches: Iterable[tuple[Tensor, Tensor]], options: argparse.Namespace, threads: int) -> Rate:
    """Returns images per second from the first batch on, without the start of workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        source = iter(batches)
        next(source)
        started, count = Clock.now(), 0
        for images, _ in islice(source, max(1, options.images // options.batch_size)):
            count += len(images)
        return Rate.of(count, Clock.now() - started)
    finally:
        torch.set_num_threads(before)


def check(batches: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Compares shape, mean and standard deviation of the views.

    Raises:
        AssertionError: If shape or dtype differ, or the statistics by more than chance.
    """
    (theirs, _), (ours, _) = batches[NO_WORKERS], batches[OURS]
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, "the batches differ in shape or dtype"
    assert abs(ours.mean() - theirs.mean()) < 0.25 and abs(ours.std() - theirs.std()) < 0.25, "the views differ"


def nt_xent(rounds: int) -> Comparison:
    """Compares forward and backward passes per second."""
    torch.manual_seed(0)
    first, second = (torch.randn(_IMAGES, _WIDTH, requires_grad=True) for _ in range(2))
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {OURS: NTXent(0.5)}
    try:
        from lightly.loss import NTXentLoss  # type: ignore[import-not-found, import-untyped, unused-ignore]

        losses[LIGHTLY] = NTXentLoss(temperature=0.5)
    except ImportError:
        print("lightly is not installed, so it is left out; to compare, pip install lightly in a separate environment.")

    def passes(loss: Callable[[Tensor, Tensor], Tensor]) -> Rate:
        started = Clock.now()
        for _ in range(_PASSES):
            first.grad = second.grad = None
            loss(first, second).backward()
        return Rate.of(_PASSES, Clock.now() - started)

    values = {}
    with one_thread():
        for name, loss in losses.items():
            passes(loss)
            assert first.grad is not None
            values[name] = torch.cat([loss(first, second).detach()[None], first.grad.flatten() * _IMAGES])
        if LIGHTLY in values:
            torch.testing.assert_close(values[OURS], values[LIGHTLY], rtol=1e-4, atol=1e-4)
        return Comparison({name: Variant(partial(passes, loss)) for name, loss in losses.items()}, rounds)


def report(title: str, unit: str, comparison: Comparison, references: Sequence[str]) -> None:
    present = [name for name in references if name in comparison.variants]
    print(f"\n{title:<24}{unit:>10}   " + "".join(f"× {name:<26}" for name in present))
    for name in comparison.variants:
        ratios = (f"{comparison.ratio(name, other)!s:<28}" for other in present)
        print(f"{name:<24}{comparison.rate(name):>10,.1f}   " + "".join(ratios))


if __name__ == "__main__":
    keep_freed_memory()  # as `fit` does
    main()
