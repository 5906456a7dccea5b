"""Reads all files of a data set, counts the images and compares the checksums with those of the official files."""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipelines.data_sets import caption_data_sets
from pipelines.data_sets.image_data_sets import CIFAR10_BATCHES, DATA_SETS, make


def verify(name: str, root: Path) -> None:
    """Reads all files of a data set and prints the number of images and whether the files are the official ones.

    Raises:
        ValueError: If files are missing or damaged.
    """
    if DATA_SETS[name].captions:
        print(caption_data_sets.verify(name, root, DATA_SETS[name].sizes), flush=True)
        return
    import numpy as np

    data = make(name, root)
    lines = [name]
    for part, official in zip(("train", "test"), DATA_SETS[name].sizes, strict=True):
        _, labels = data.read(train=part == "train")
        counts = np.bincount(labels, minlength=data.num_classes)
        per_class = f"{counts.min():,}" + (f" to {counts.max():,}" if counts.max() > counts.min() else "")
        verdict = "the official count" if len(labels) == official else f"not the official count of {official:,}"
        lines.append(f"  {part:<5}  {len(labels):,} images, {per_class} in each class: {verdict}")
    print("\n".join([*lines, *(f"  files  {line}" for line in _compare_checksums(name, root))]), flush=True)


def _compare_checksums(name: str, root: Path) -> Iterator[str]:
    """Reports which files with a known checksum are the official ones."""
    from datamodules.files import official_files as official

    data_set = DATA_SETS[name]
    folder = root / data_set.folder
    if not data_set.files:
        yield "none, the data set is built in"
        return
    if name == "cifar10":
        known = {folder / file: f"md5:{digest}" for file, digest in CIFAR10_BATCHES.items()}
        known[root / official.CIFAR10.name] = official.CIFAR10.checksum
    else:
        packed = official.MNIST if name == "mnist" else official.FASHION_MNIST
        known = {folder / file.name: file.checksum for file in packed}
    present = [file for file in known if file.is_file()]
    others = [file.name for file in present if _digest(file, known[file]) != known[file]]
    if name != "cifar10":  # checksums are known for the .gz files only; an unpacked file is compared with its .gz
        unpacked = [folder / file for file in data_set.files if (folder / file).is_file()]
        alone = [file.name for file in unpacked if not file.with_name(f"{file.name}.gz").is_file()]
        others += [file.name for file in unpacked if file.name not in alone and not _same_as_packed(file)]
        if alone:
            yield f"unpacked, without a .gz file to compare with: {', '.join(alone)}"
    if others:
        yield f"differ from the official files: {', '.join(others)}"
    elif present:
        yield f"identical to the official files: {', '.join(file.name for file in present)}"


def _digest(file: Path, like: str) -> str:
    """Returns the checksum `ALGORITHM:DIGEST` of a file, with the algorithm of the checksum `like`."""
    algorithm = like.partition(":")[0]
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{found.hexdigest()}"


def _same_as_packed(file: Path) -> bool:
    try:
        with gzip.open(file.with_name(f"{file.name}.gz")) as stream:
            return stream.read(file.stat().st_size + 1) == file.read_bytes()
    except (OSError, EOFError):
        return False
