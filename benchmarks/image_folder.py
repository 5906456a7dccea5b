"""Images per second of a folder of photos: resize, center crop, horizontal flip, standardize; shuffled batches.

    python -m benchmarks.image_folder [--photos N] [--rounds R] [--size S]

The photos are drawn: N JPEG files of 500×375 pixels in five classes. All variants return float32 batches ready for a
model; timing runs over one epoch, starting two worker processes included, as each epoch of a run does.

    torchvision   ImageFolder with Resize, CenterCrop, RandomHorizontalFlip, ToTensor, Normalize, in two workers
    in memory     ours, decoded once before the first epoch, whose seconds are printed
    decoded       ours, decoded batch by batch in two workers (max_memory 0)
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.timing import Clock, Comparison, Rate, Variant, one_thread
from datamodules import ImageFolder

TORCHVISION, IN_MEMORY, DECODED = "torchvision, 2 workers", "ours, in memory", "ours, decoded by 2 workers"

_BATCH = 64
_WIDTH, _HEIGHT = 500, 375  # the median size of ImageNet's photos


class Ours:
    """The data module as a Trainer uses it."""

    def __init__(self, folder: Path, size: int, max_memory: float) -> None:
        self.data = ImageFolder(
            str(folder), size=size, flip=True, batch_size=_BATCH, max_memory=max_memory, val_fraction=0, test_fraction=0
        )
        self.data.setup("fit")
        self.loader = self.data.train_dataloader()

    def __iter__(self) -> Any:
        return (self.data.on_after_batch_transfer(batch, 0) for batch in self.loader)


def main(arguments: Sequence[str] | None = None) -> Comparison:
    parser = argparse.ArgumentParser(description="Images per second of a folder of photos.")
    parser.add_argument("--photos", type=int, default=2000, help="number of photos")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="side of the resized images in pixels")
    options = parser.parse_args(arguments)
    with one_thread(), TemporaryDirectory() as temporary:
        folder = draw(Path(temporary), options.photos)
        begun = Clock.now()
        memory = Ours(folder, options.size, 4.0)
        print(f"decoding all photos once: {(Clock.now() - begun).wall:.1f} s", flush=True)
        decoded = Ours(folder, options.size, 0.0)
        variants = {
            TORCHVISION: Variant(partial(measure, theirs(folder, options.size)), by_wall=True),
            IN_MEMORY: Variant(partial(measure, memory), by_wall=True),
            DECODED: Variant(partial(measure, decoded), by_wall=True),
        }
        comparison = Comparison(variants, options.rounds)
    print(f"{'':28}{'images/s':>10}  × {TORCHVISION}")
    for name in variants:
        print(f"{name:28}{comparison.rate(name):10,.0f}  {comparison.ratio(name, TORCHVISION)}")
    return comparison


def theirs(folder: Path, size: int) -> DataLoader[Any]:
    """torchvision's data set with the transforms of its documentation."""
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    return DataLoader(datasets.ImageFolder(folder, transform), _BATCH, shuffle=True, num_workers=2, drop_last=True)


def measure(batches: Iterable[Any]) -> Rate:
    """Returns the images per second of one epoch."""
    begun, images = Clock.now(), 0
    for pixels, _ in batches:
        images += len(pixels)
    return Rate.of(images, Clock.now() - begun)


def draw(folder: Path, photos: int) -> Path:
    """Writes smooth random photos with some noise, about 40 kB each, in five classes; returns the folder."""
    dice = np.random.default_rng(0)
    for i in range(photos):
        small = Image.fromarray(dice.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), np.int16)
        noisy = (smooth + dice.integers(-12, 13, (_HEIGHT, _WIDTH, 1), dtype=np.int16)).clip(0, 255).astype(np.uint8)
        kind = folder / f"class{i % 5}"
        kind.mkdir(exist_ok=True)
        Image.fromarray(noisy).save(kind / f"{i:05}.jpg", quality=85)
    return folder


if __name__ == "__main__":
    main(sys.argv[1:])
