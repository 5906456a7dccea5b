"""Images per second of HOG and hue histograms, against loops over scikit-image's and the course's functions.

    python -m benchmarks.features [--root data] [--rounds R] [--images N]

HOG: `hog` on chunks of 200 images, and `skimage.feature.hog` image by image with the same settings.
Hue: `hue_histogram` on the same chunks, and `matplotlib.colors.rgb_to_hsv` with `numpy.histogram` image by image.
Both pairs must agree.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import rgb_to_hsv
from skimage.feature import hog as skimage_hog
from torch import Tensor

from benchmarks.timing import Clock, Comparison, Rate, Variant, one_thread
from common.errors import UserError
from datamodules.files.cifar_files import read_cifar10
from datamodules.images.color_histograms import hue_histogram
from datamodules.images.hog import hog
from datamodules.images.shape_drawing import draw_shapes

_CHUNK = 200
_BINS = 10
_SHORTEST = 0.5  # minimum CPU seconds of a measurement
_LARGEST_ERROR = 1e-5

Function = Callable[[Tensor], Tensor]


def images_of(root: Path, count: int) -> tuple[Tensor, str]:
    """Returns training images of CIFAR-10, or of Shapes if it is missing, (N, 3, 32, 32) uint8, and their name."""
    folder = root / "cifar-10-batches-py"
    if folder.is_dir():
        return torch.from_numpy(read_cifar10(folder, True)[0][:count].copy()), "CIFAR-10"
    return torch.from_numpy(draw_shapes(count, seed=0).images), "drawn Shapes"


def in_chunks(function: Function, images: Tensor) -> Tensor:
    return torch.cat([function(chunk) for chunk in images.split(_CHUNK)])


def skimage_loop(images: Tensor) -> Tensor:
    features = [
        skimage_hog(image.transpose(1, 2, 0), pixels_per_cell=(4, 4), cells_per_block=(2, 2), channel_axis=-1)
        for image in images.numpy()
    ]
    return torch.from_numpy(np.stack(features))


def course_loop(images: Tensor) -> Tensor:
    edges, histograms = np.linspace(0, 255, _BINS + 1), []
    for image in images.numpy():
        hues = rgb_to_hsv(image.transpose(1, 2, 0).astype(np.float64) / 255)[..., 0] * 255
        counts, _ = np.histogram(hues, bins=edges, density=True)
        histograms.append(counts * np.diff(edges))
    return torch.from_numpy(np.stack(histograms))


def measure(function: Function, images: Tensor) -> Rate:
    """Returns images per second, over at least `_SHORTEST` seconds."""
    start, passes = Clock.now(), 0
    while not passes or (Clock.now() - start).cpu < _SHORTEST:
        function(images)
        passes += 1
    return Rate.of(passes * len(images), Clock.now() - start)


def main(arguments: Sequence[str] | None = None) -> Comparison:
    """Prints images/s of each variant, the ratio to its loop as median (smallest-largest), and the largest error.

    Raises:
        ValueError: If there is no image, or features differ from the loop's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args(arguments)
    if options.images < 1:
        raise UserError(f"images is {options.images}; it must be at least 1.")
    images, source = images_of(options.root, options.images)
    pairs: dict[str, tuple[str, Function, Function]] = {
        "hog": ("scikit-image loop", partial(in_chunks, hog), skimage_loop),
        "hue histogram": ("course's loop", partial(in_chunks, partial(hue_histogram, bins=_BINS)), course_loop),
    }
    with one_thread():
        errors = {name: float((ours(images) - loop(images)).abs().max()) for name, (_, ours, loop) in pairs.items()}
        variants: dict[str, Variant] = {}
        for name, (reference, ours, loop) in pairs.items():
            variants[reference] = Variant(partial(measure, loop, images))
            variants[name] = Variant(partial(measure, ours, images))
        comparison = Comparison(variants, options.rounds)
    print(f"{len(images):,} {source} images, {options.rounds} rounds")
    print(f"{'':<20}{'images/s':>10}   × the loop            largest error")
    for name, (reference, *_) in pairs.items():
        print(f"{reference:<20}{comparison.rate(reference):>10,.0f}")
        print(f"{name:<20}{comparison.rate(name):>10,.0f}  {comparison.ratio(name, reference)}   {errors[name]:.1e}")
    if wrong := [name for name, error in errors.items() if not error < _LARGEST_ERROR]:
        raise ValueError(f"{' and '.join(wrong)} differ from the loop by more than {_LARGEST_ERROR:g}; fix them first.")
    return comparison


if __name__ == "__main__":
    main()
