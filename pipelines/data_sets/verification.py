"""Reads all files of a data set, counts what is in them and compares them with the official ones by their checksums."""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipelines.data_sets import caption_data_sets as caption_data
from pipelines.data_sets.image_data_sets import CIFAR10_BATCHES, DATA_SETS, make


def verify(name: str, root: Path) -> None:
    """Reads all of a data set's files and prints what is in them.

    Raises:
        ValueError: files that are missing or damaged.
    """
    if DATA_SETS[name].captions:
        print(caption_data.verify(name, root, DATA_SETS[name].sizes), flush=True)
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
    print("\n".join([*lines, *(f"  files  {line}" for line in _compare_bytes(name, root))]), flush=True)


def _compare_bytes(name: str, root: Path) -> Iterator[str]:
    """Says of the files whose official checksum is known whether they are the official ones."""
    from datamodules.files import official_files as official

    data_set = DATA_SETS[name]
    folder = root / data_set.folder
    if not data_set.files:
        yield "built in, no files"
        return
    if name == "cifar10":
        known = {folder / file: f"md5:{digest}" for file, digest in CIFAR10_BATCHES.items()}
        known[root / official.CIFAR10.name] = official.CIFAR10.checksum
    else:
        packed = official.MNIST if name == "mnist" else official.FASHION_MNIST
        known = {folder / file.name: file.checksum for file in packed}
    present = [file for file in known if file.is_file()]
    others = [file.name for file in present if _digest(file, known[file]) != known[file]]
    if name != "cifar10":  # the readers prefer unpacked files: they are official if the packed ones beside them say so
        unpacked = [folder / file for file in data_set.files if (folder / file).is_file()]
        alone = [file.name for file in unpacked if not file.with_name(f"{file.name}.gz").is_file()]
        others += [file.name for file in unpacked if file.name not in alone and not _same_as_packed(file)]
        if alone:
            yield f"unpacked, and no .gz beside to compare with: {', '.join(alone)}"
    if others:
        yield f"not the official bytes: {', '.join(others)}"
    elif present:
        yield f"the official bytes: {', '.join(file.name for file in present)}"


def _digest(file: Path, like: str) -> str:
    """The file's checksum by the algorithm of another, `ALGORITHM:DIGEST`."""
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
