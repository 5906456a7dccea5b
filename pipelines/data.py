"""Lists, downloads, verifies and previews the data sets.

python -m pipelines.data list
python -m pipelines.data download cifar10 mnist
python -m pipelines.data verify cifar10
python -m pipelines.data preview cifar10 --flip --crop_padding 4 --cutout 8 --out preview.png

`verify` ends with status 1 if files are missing or damaged. Counts or bytes that are not the official ones are said,
but are no failure: a part of a data set in the right format can be trained on.
"""

import argparse
import gzip
import hashlib
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines import caption_data
from pipelines.errors import sentence, user_errors

if TYPE_CHECKING:
    import numpy as np

    from datamodules import ImageDataModule

_COLUMNS = 10  # of a preview: one for each class
_MOST_IMAGES = 200


class DataSet(NamedTuple):
    """What `list` says of a data set, at once: the datamodules themselves take seconds to import."""

    class_name: str
    sizes: tuple[int, int]  # training and test images
    shape: tuple[int, int, int]  # (C, H, W)
    megabytes: int  # to download; 0 for one that is built in
    folder: str  # of the files, below the root
    files: tuple[str, ...]  # in the folder; those of MNIST may end in .gz as well, and some of COCO are folders
    captions: bool = False  # instead of ten classes


_IDX = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_BATCHES = {  # with the md5 sums of the official files
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_COCO = ("annotations/captions_train{0}.json", "annotations/captions_val{0}.json", "train{0}", "val{0}")
DATA_SETS = {
    "cifar10": DataSet("CIFAR10", (50_000, 10_000), (3, 32, 32), 170, "cifar-10-batches-py", tuple(_BATCHES)),
    "mnist": DataSet("MNIST", (60_000, 10_000), (1, 28, 28), 12, "MNIST/raw", _IDX),
    "fashion_mnist": DataSet("FashionMNIST", (60_000, 10_000), (1, 28, 28), 31, "FashionMNIST/raw", _IDX),
    "digits": DataSet("Digits", (1_437, 360), (1, 8, 8), 0, "", ()),
    "shapes": DataSet("Shapes", (10_000, 2_000), (3, 32, 32), 0, "", ()),
    "coco": DataSet(
        "COCOCaptions", (118_287, 5_000), (3, 224, 224), 20_405, "coco", tuple(f.format(2017) for f in _COCO), True
    ),
    "coco2014": DataSet(
        "COCOCaptions", (82_783, 40_504), (3, 224, 224), 20_408, "coco", tuple(f.format(2014) for f in _COCO), True
    ),
    "shape_captions": DataSet("ShapeCaptions", (20_000, 2_000), (3, 48, 48), 0, "", (), True),
}


def find_name(name: str) -> str:
    """The data set meant by a name or a class's name, in capitals or not.

    Raises:
        ValueError: there is none, with the nearest name.
    """
    plain = name.lower().replace("-", "").replace("_", "")
    names = {data_set.class_name.lower(): known for known, data_set in reversed(DATA_SETS.items())}
    names |= {known.replace("_", ""): known for known in DATA_SETS}
    if plain in names:
        return names[plain]
    near = get_close_matches(plain, names, 1)
    meant = f"did you mean {names[near[0]]}?" if near else f"give one of {', '.join(DATA_SETS)}."
    raise ValueError(f"There is no data set {name!r}; {meant}")


def state(name: str, root: Path) -> str:
    """Whether a data set's files lie below the root: `built in`, `there`, `missing` or how many are there."""
    data_set = DATA_SETS[name]
    if not data_set.files:
        return "built in"
    folder = root / data_set.folder
    present = sum((folder / file).exists() or (folder / f"{file}.gz").is_file() for file in data_set.files)
    if present in (0, len(data_set.files)):
        return "there" if present else "missing"
    return f"{present} of {len(data_set.files)} files"


def table(root: Path) -> str:
    """All data sets, one a line."""
    rows = [("name", "train", "test", "shape", "classes", "download", f"in {root}")]
    for name, data_set in DATA_SETS.items():
        sizes = [f"{size:,}" for size in data_set.sizes]
        shape = "×".join(map(str, data_set.shape))
        size = f"{data_set.megabytes} MB" if data_set.megabytes else "none"
        classes = "none" if data_set.captions else "10"
        rows.append((name, *sizes, shape, classes, size, state(name, root)))  # type: ignore[arg-type]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = (1, 2, 4, 5)
    lines = (
        "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def make(name: str, root: Path, **settings: Any) -> "ImageDataModule":
    """The datamodule of a data set."""
    import datamodules

    made: ImageDataModule = getattr(datamodules, DATA_SETS[name].class_name)(root=str(root), **settings)
    return made


def download(name: str, root: Path) -> None:
    """Downloads a data set's files unless they are there, with a progress bar.

    Raises:
        ValueError: no mirror delivers the right files, or they can't be written.
    """
    if not DATA_SETS[name].files:
        print(f"{name}: built in, nothing to download.")
        return
    if DATA_SETS[name].captions:
        caption_data.download(name, root)
    else:
        make(name, root).prepare_data()
    print(f"{name}: there, in {root / DATA_SETS[name].folder}.")


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
    from datamodules import official_files as official

    data_set = DATA_SETS[name]
    folder = root / data_set.folder
    if not data_set.files:
        yield "built in, no files"
        return
    if name == "cifar10":
        known = {folder / file: f"md5:{digest}" for file, digest in _BATCHES.items()}
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


def preview(name: str, root: Path, count: int, seed: int, augmentation: dict[str, Any]) -> "np.ndarray[Any, Any]":
    """Training images with their classes, and below them the same images augmented if augmentation is set.

    Args:
        name: of the data set.
        root: folder of the data files.
        count: how many images, 1 to 200, as evenly from all classes as they go.
        seed: of the augmentation.
        augmentation: settings of the datamodule, such as crop_padding.

    Returns:
        The picture, (height, width, 3) uint8.

    Raises:
        ValueError: a count or setting out of range, or files that are missing or damaged.
    """
    if not 1 <= count <= _MOST_IMAGES:
        raise ValueError(f"n is {count}; give 1 to {_MOST_IMAGES} images.")
    if DATA_SETS[name].captions:
        classified = ", ".join(known for known, data_set in DATA_SETS.items() if not data_set.captions)
        raise ValueError(f"preview shows images by their classes, and {name} has captions; give one of {classified}.")
    import numpy as np
    import torch

    from callbacks.pictures import image_grid
    from datamodules.loader import Batch

    # Quick by its last three settings: nothing is held out or fitted, and only these images are stored.
    data = make(name, root, **augmentation, val_fraction=0.0, preprocessing="scale", subset=count)
    fetch = data.train_dataloader().fetch
    images, labels = data.splits["train"]
    place = [int((labels[:i] == label).sum()) for i, label in enumerate(labels)]  # within the image's class
    order = torch.tensor(sorted(range(count), key=lambda i: (place[i], int(labels[i]))))
    titles = [data.class_names[label] for label in labels[order]]
    picture = image_grid(images[order] / 255, titles, _COLUMNS, f"{data.__class__.__name__}: {count} training images")
    if not augmentation:
        return picture
    augmented, _ = fetch(Batch(order, seed, count, 0))
    title = f"The same images after {', '.join(_described(key, value) for key, value in augmentation.items())}"
    most = 14 * min(count, _COLUMNS)  # characters that fit above the images
    title = title if len(title) <= most else title[: most - 1] + "…"
    return np.concatenate([picture, image_grid(augmented / 255, titles, _COLUMNS, title)])


def _described(key: str, value: Any) -> str:
    if isinstance(value, list):  # of an albumentations pipeline, the names alone
        return " → ".join(entry if isinstance(entry, str) else next(iter(entry)) for entry in value)
    return key if value is True else f"{key} {value:g}"


def write_png(picture: "np.ndarray[Any, Any]", file: Path) -> None:
    """Writes a picture so that the file is there whole or not at all, and replaces an older one.

    Raises:
        OSError: the folder can't be written.
    """
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    try:
        Image.fromarray(picture).save(part, format="PNG")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _albumentations(text: str) -> list[Any]:
    """A pipeline written as YAML on the command line."""
    import yaml

    try:
        pipeline = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"albumentations is {text!r}, which is no YAML ({sentence(error)}); mend it.") from error
    if not isinstance(pipeline, list):
        raise ValueError(f"albumentations is {text!r}; give a list such as '[{{HorizontalFlip: {{p: 0.5}}}}]'.")
    return pipeline


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m pipelines.data", description="Lists, downloads, verifies and previews the data sets.",
        epilog=f"data sets: {', '.join(DATA_SETS)}", allow_abbrev=False,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    root = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    root.add_argument("--root", type=Path, default=Path("data"), help="folder of the data files (default: data)")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[root], allow_abbrev=False)

    add("list", "show all data sets and whether their files are there")
    for name, text in (
        ("download", "download data sets unless they are there"),
        ("verify", "read all files of data sets, count the images and compare checksums"),
    ):
        add(name, text).add_argument("names", nargs="+", metavar="NAME", help=", ".join(DATA_SETS))
    show = add("preview", "draw training images before and after augmentation into a PNG file")
    show.add_argument("names", nargs=1, metavar="NAME", help=", ".join(DATA_SETS))
    show.add_argument("--out", type=Path, default=Path("preview.png"), help="the file (default: preview.png)")
    show.add_argument("--n", type=int, default=40, help="number of images (default: 40)")
    show.add_argument("--seed", type=int, default=0, help="of the augmentation (default: 0)")
    show.add_argument("--crop_padding", type=int, default=0, help="pixels padded before a random crop")
    show.add_argument("--flip", action="store_true", help="mirror at random")
    show.add_argument("--rotation", type=float, default=0.0, help="largest angle in degrees")
    show.add_argument("--cutout", type=int, default=0, help="side of a blanked square in pixels")
    show.add_argument("--albumentations", help="a pipeline as YAML, such as '[{HorizontalFlip: {p: 0.5}}]'")
    return parser


def _run(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "list":
        print(table(given.root))
        return 0
    names = [find_name(name) for name in given.names]
    failed = False
    for name in names:
        if given.command == "download":
            download(name, given.root)
        elif given.command == "verify":
            try:
                verify(name, given.root)
            except ValueError as error:
                print(f"error: {sentence(error)}", file=sys.stderr)
                failed = True
        else:
            settings = {key: getattr(given, key) for key in ("crop_padding", "flip", "rotation", "cutout")}
            if given.albumentations is not None:
                settings["albumentations"] = _albumentations(given.albumentations)
            augmentation = {key: value for key, value in settings.items() if value}
            write_png(preview(name, given.root, given.n, given.seed, augmentation), given.out)
            print(f"{name}: {given.n} images in {given.out}")
    return int(failed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; ends with status 1 if files fail to verify, 2 if the command can't be carried out."""
    with user_errors():
        if status := _run(sys.argv[1:] if arguments is None else arguments):
            sys.exit(status)


if __name__ == "__main__":
    main()
