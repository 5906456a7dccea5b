"""Images per second of the input pipeline: pad by 4, random crop, horizontal flip, standardize; shuffled batches.

    python -m benchmarks.input_pipeline [--root data] [--images N] [--rounds R] [--batch_size B]

All variants get the same 50,000 CIFAR-10 training images in memory (drawn Shapes if the files are missing) and return
float32 batches ready for a model. Timing runs from the first batch until N images have been returned, for at least
0.3 s, so starting worker processes and reading files are left out. First, the batches of all variants are checked:
shape, range, and mean and standard deviation, which must agree with torchvision's.

`torchvision, whole batches` draws one crop and one flip for the whole batch: less augmentation than the others.
`ours without augmentation` only shuffles and standardizes.
"""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or albumentations looks for a newer version online

import albumentations as A
import torch
from albumentations.pytorch import ToTensorV2
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.transforms import v2

from benchmarks.timing import Clock, Comparison, Rate, Variant, one_thread
from common.errors import UserError
from datamodules import CIFAR10, ImageDataModule, Shapes
from datamodules.files.official_files import CIFAR10_MEMBERS

PADDING = 4
REFERENCE = "torchvision, 0 workers"
TWO_WORKERS = "torchvision, 2 workers"
PIPELINE = [{"RandomCrop": {"height": 32, "width": 32}}, {"HorizontalFlip": {"p": 0.5}}]

_SHORTEST = 0.3  # minimum wall time of a measurement, in seconds

Batches = Iterable[tuple[Tensor, Tensor]]


class InMemory(datasets.CIFAR10):  # type: ignore[misc]  # torchvision has no types
    """torchvision's data set, with its own per-image code, of images (N, C, H, W) uint8 in memory."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[..., Any]) -> None:
        self.data = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = labels.tolist()
        self.transform, self.target_transform = transform, None


class ByAlbumentations(InMemory):
    """The same for albumentations, which takes arrays (H, W, C), as in its documentation."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(image=self.data[index])["image"], self.targets[index]


class Ours:
    """This project's data module as a Trainer uses it."""

    def __init__(self, data: ImageDataModule) -> None:
        data.setup("fit")
        self.data = data
        self.loader = data.train_dataloader()

    def __iter__(self) -> Any:
        return (self.data.on_after_batch_transfer(batch, 0) for batch in self.loader)


class WholeBatches:
    """torchvision's v2 transforms on uint8 batches (B, C, H, W)."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, mean: list[float], std: list[float]) -> None:
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=PADDING),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean, std, inplace=True),
            ]
        )

    def __iter__(self) -> Any:
        for indices in torch.randperm(len(self.labels)).split(self.batch_size):
            yield self.transform(self.images[indices]), self.labels[indices]


def main(arguments: Sequence[str] | None = None) -> Comparison:
    parser = argparse.ArgumentParser(description="Images per second of the input pipeline.")
    parser.add_argument("--root", default="data", help="folder of the data sets")
    parser.add_argument("--images", type=int, default=10_000, help="images per measurement")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch_size", type=int, default=128)
    options = parser.parse_args(arguments)
    with one_thread():
        pipelines = build(options.root, options.images, options.batch_size)
        ours = pipelines["ours"]
        assert isinstance(ours, Ours)
        extremes = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 1, 1)
        pixels = ours.data.preprocessing(extremes)
        check(pipelines, options.images, float(pixels.min()), float(pixels.max()))
        variants = {
            name: Variant(partial(measure, batches, options.images), by_wall=name == TWO_WORKERS)
            for name, batches in pipelines.items()
        }
        comparison = Comparison(variants, options.rounds)
    report(comparison)
    return comparison


def build(root: str, num_images: int, batch_size: int) -> dict[str, Batches]:
    """Returns all variants on the same images."""
    settings: dict[str, Any] = {"root": root, "val_fraction": 0.0, "batch_size": batch_size}
    source = CIFAR10(**settings)
    kind: Callable[..., ImageDataModule] = CIFAR10
    if not all((source.root / "cifar-10-batches-py" / name).is_file() for name in CIFAR10_MEMBERS):
        print(f"No CIFAR-10 files in {root}: measuring on {num_images:,} drawn Shapes images instead.")
        kind = partial(Shapes, num_train=num_images, num_test=10)
    plain = Ours(kind(**settings))
    fitted, split = plain.data.preprocessing.fitted, plain.data.splits["train"]

    def ours(**augmentation: Any) -> Ours:
        data = kind(**{**settings, **augmentation})
        data.splits["train"] = data.splits["val"] = split  # read once for all
        return Ours(data)

    std = (1 / (255 * fitted["scale"].flatten())).tolist()
    mean = (-fitted["shift"].flatten() * torch.tensor(std)).tolist()
    by_torchvision = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=PADDING),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    by_albumentations = A.Compose(
        [
            A.PadIfNeeded(32 + 2 * PADDING, 32 + 2 * PADDING, border_mode=0, fill=0),
            A.RandomCrop(32, 32),
            A.HorizontalFlip(p=0.5),
            A.Normalize(mean, std),
            ToTensorV2(),
        ]
    )
    loader = partial(DataLoader, batch_size=batch_size, shuffle=True, drop_last=num_images >= batch_size)
    images = InMemory(*split, by_torchvision)
    return {
        REFERENCE: loader(images),
        TWO_WORKERS: loader(images, num_workers=2),
        "torchvision, whole batches": WholeBatches(*split, batch_size, mean, std),
        "albumentations, 0 workers": loader(ByAlbumentations(*split, by_albumentations)),
        "ours with albumentations": ours(crop_padding=PADDING, albumentations=PIPELINE),
        "ours": ours(crop_padding=PADDING, flip=True),
        "ours, batches of 500": ours(crop_padding=PADDING, flip=True, batch_size=500),
        "ours without augmentation": plain,
    }


def check(pipelines: dict[str, Batches], num_images: int, lowest: float, highest: float) -> None:
    """Compares the batches of the variants with torchvision's.

    Raises:
        AssertionError: If shape, dtype, mean or standard deviation differ, or a value is out of the range of pixels.
    """
    first: dict[str, Tensor] = {}
    for name, batches in pipelines.items():
        kept: list[Tensor] = []
        for images, labels in batches:
            assert images.dtype == torch.float32, f"{name}: {images.dtype}"
            assert images.shape == (len(labels), 3, 32, 32), f"{name}: {images.shape}"
            kept.append(images)
            if sum(map(len, kept)) >= num_images:
                break
        first[name] = torch.cat(kept)
    reference = first[REFERENCE]
    center = reference[..., PADDING:-PADDING, PADDING:-PADDING]  # without padding: standardized but for the borders
    assert abs(float(center.mean())) < 0.25, f"torchvision's images have mean {center.mean()}"
    assert 0.7 < float(center.std()) < 1.3, f"torchvision's images have standard deviation {center.std()}"
    for name, images in first.items():
        compared = images if "without" not in name else images[..., PADDING:-PADDING, PADDING:-PADDING]
        expected = reference if "without" not in name else center
        for statistic in (torch.mean, torch.std):
            difference = abs(float(statistic(compared)) - float(statistic(expected)))
            assert difference < 0.05, f"{name}: {statistic.__name__} differs from torchvision's by {difference:.3f}"
        assert images.min() > lowest - 1e-3, f"{name}: a value of {images.min()}"
        assert images.max() < highest + 1e-3, f"{name}: a value of {images.max()}"


def measure(batches: Batches, num_images: int) -> Rate:
    """Returns images per second, from the first batch of each epoch, over as many epochs as needed."""
    done, cpu, wall = 0, 0.0, 0.0
    while done < num_images or wall < _SHORTEST:
        iterator = iter(batches)
        first = len(next(iterator)[1])
        started = now = Clock.now()
        before = done
        for _, labels in iterator:
            done += len(labels)
            now = Clock.now()
            if done >= num_images and wall + (now - started).wall >= _SHORTEST:
                break
        if done == before:
            raise UserError(f"An epoch has a single batch of {first} images; use more images or a smaller batch.")
        cpu, wall = cpu + (now - started).cpu, wall + (now - started).wall
    return Rate.of(done, Clock(cpu, wall))


def report(comparison: Comparison) -> None:
    print(f"\n{'':<28}{'images/s':>10}   × {REFERENCE:<24}× {TWO_WORKERS}")
    for name in comparison.variants:
        to_reference, to_workers = (str(comparison.ratio(name, other)) for other in (REFERENCE, TWO_WORKERS))
        print(f"{name:<28}{comparison.rate(name):>10,.0f}   {to_reference:<26}{to_workers}")
    if comparison.ratio(TWO_WORKERS, REFERENCE).median < 1.3:
        print(
            "Two workers were hardly faster than none, so the cores were busy (or there are fewer than two): the last "
            "column is too high, and its smallest values are the most accurate."
        )


if __name__ == "__main__":
    main()
