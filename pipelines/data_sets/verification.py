"""Reads all files of a data set, counts the images and compares the checksums with those of the official files."""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from common.commands import command
from common.data_file_names import cifar10_folder, find_mnist_file
from common.errors import UserError
from pipelines.data_sets import caption_data_sets
from pipelines.data_sets.image_data_sets import CIFAR10_BATCHES, DATA_SETS, MNIST_UNPACKED, make
from pipelines.data_sets.own_images import verify_own_images


def verify(name: str, root: Path) -> None:
    """Reads all files of a data set and prints the number of images and whether the files are the official ones.

    Raises:
        ValueError: If files are missing or damaged; files of the official size with other bytes count as damaged.
    """
    if name not in DATA_SETS:
        print("\n".join(verify_own_images(make(name, root))), flush=True)
        return
    if DATA_SETS[name].captions:
        lines, damaged = caption_data_sets.verify(name, root, DATA_SETS[name].sizes)
        print("\n".join(lines), flush=True)
        if damaged:
            raise UserError(f"{name}: {damaged}; repair or delete them, or get them again.")
        return
    import numpy as np

    data = make(name, root)
    lines, complete = [name], True
    for part, official in zip(("train", "test"), DATA_SETS[name].sizes, strict=True):
        _, labels = data.read(train=part == "train")
        counts = np.bincount(labels, minlength=data.num_classes)
        per_class = f"{counts.min():,}" + (f" to {counts.max():,}" if counts.max() > counts.min() else "")
        complete &= len(labels) == official
        verdict = "the official count" if len(labels) == official else f"not the official count of {official:,}"
        lines.append(f"  {part:<5}  {len(labels):,} images, {per_class} in each class: {verdict}")
    files = _compare_checksums(name, root, complete)
    print("\n".join([*lines, *(f"  files  {line}" for line in files.lines)]), flush=True)
    if complete and files.differing:
        raise UserError(
            f"{', '.join(map(str, files.differing))} have as many images as the official files but other bytes, so "
            f"they are damaged or were changed; delete them and run {command('data', 'download', name)}."
        )


class _Comparison(NamedTuple):
    lines: list[str]
    differing: list[Path]


def _compare_checksums(name: str, root: Path, complete: bool) -> _Comparison:
    """Reports which files are the official ones; `complete` if they have the official numbers of images."""
    from datamodules.files import official_files as official

    data_set = DATA_SETS[name]
    if not data_set.files:
        return _Comparison(["none, the data set is built in"], [])
    lines = []
    if name == "cifar10":
        known = {cifar10_folder(root) / file: f"md5:{digest}" for file, digest in CIFAR10_BATCHES.items()}
        known[root / official.CIFAR10.name] = official.CIFAR10.checksum
        unpacked = []
    else:
        packed = official.MNIST if name == "mnist" else official.FASHION_MNIST
        folder = root / data_set.folder
        known = {folder / file.name: file.checksum for file in packed}
        found = {file: find_mnist_file(folder, file) for file in data_set.files}
        known |= {
            path: file.checksum
            for file in packed
            if (path := found[file.name.removesuffix(".gz")]) and _is_packed(path)
        }
        unpacked = [(file, path) for file, path in found.items() if path and not _is_packed(path)]
    present = [file for file in known if file.is_file()]
    differing = [file for file in present if _digest(file, known[file]) != known[file]]
    # Checksums are known of the .gz files, and of MNIST's unpacked ones; otherwise an unpacked file is compared with
    # its .gz file.
    alone = []
    for file, path in unpacked:
        if path.with_name(f"{path.name}.gz").is_file():
            differing += [] if _same_as_packed(path) else [path]
        elif name == "mnist" and (_digest(path, "sha256:") == f"sha256:{MNIST_UNPACKED[file]}" or complete):
            present.append(path)
            differing += [] if _digest(path, "sha256:") == f"sha256:{MNIST_UNPACKED[file]}" else [path]
        else:
            alone.append(path)
    if alone:
        lines.append(f"unpacked, without a .gz file to compare with: {', '.join(file.name for file in alone)}")
    if differing:
        lines.append(f"differ from the official files: {', '.join(file.name for file in differing)}")
    elif present:
        lines.append(f"identical to the official files: {', '.join(file.name for file in present)}")
    return _Comparison(lines, differing)


def _is_packed(file: Path) -> bool:
    return file.suffix == ".gz"


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
