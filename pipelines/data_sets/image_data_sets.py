"""Catalog of the data sets: names on the command line, sizes, and whether the files are complete."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.data_file_names import cifar10_folder, find_mnist_file
from common.errors import UserError
from common.user_paths import user_path

if TYPE_CHECKING:
    from datamodules import ImageDataModule


class DataSet(NamedTuple):
    """Facts about a data set, available without importing its data module, which takes seconds."""

    class_name: str  # in datamodules
    sizes: tuple[int, int]  # training and test images
    shape: tuple[int, int, int]  # (C, H, W)
    megabytes: int  # to download; 0 if built in
    folder: str  # of the files, relative to the root
    files: tuple[str, ...]  # in the folder; MNIST's may end in .gz, and some of COCO's are folders
    captions: bool = False  # captions instead of ten classes


_IDX = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
CIFAR10_BATCHES = {  # with the md5 sums of the official files
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
MNIST_UNPACKED = {  # with the sha256 sums of the official files without .gz
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_COCO = ("annotations/captions_train{0}.json", "annotations/captions_val{0}.json", "train{0}", "val{0}")
DATA_SETS = {
    "cifar10": DataSet("CIFAR10", (50_000, 10_000), (3, 32, 32), 170, "cifar-10-batches-py", tuple(CIFAR10_BATCHES)),
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
    """Returns the name of a data set, given its name or class name in any case; the path of own images as it is.

    Raises:
        ValueError: If there is no such data set; the message suggests the nearest name.
    """
    plain = name.lower().replace("-", "").replace("_", "")
    names = {data_set.class_name.lower(): known for known, data_set in reversed(DATA_SETS.items())}
    names |= {known.replace("_", ""): known for known in DATA_SETS}
    if plain in names:
        return names[plain]
    if user_path(name).exists():
        return name
    near = get_close_matches(plain, names, 1)
    known = f"it must be one of {', '.join(DATA_SETS)}, or a folder or CSV file of your own images."
    raise UserError(f"There is no data set {name!r}; {f'did you mean {names[near[0]]}?' if near else known}")


def state(name: str, root: Path) -> str:
    """Returns the state of a data set's files: `built in`, `complete`, `missing`, or how many of them exist."""
    data_set = DATA_SETS[name]
    if not data_set.files:
        return "built in"
    folder = cifar10_folder(root) if name == "cifar10" else root / data_set.folder
    is_mnist = name in ("mnist", "fashion_mnist")
    present = sum(
        find_mnist_file(folder, file) is not None if is_mnist else (folder / file).exists() for file in data_set.files
    )
    if present in (0, len(data_set.files)):
        return "complete" if present else "missing"
    return f"{present} of {len(data_set.files)} files"


def table(root: Path) -> str:
    """Returns a table of all data sets, one per line."""
    rows = [("name", "train", "test", "shape", "classes", "download", f"in {root}")]
    for name, data_set in DATA_SETS.items():
        sizes = [f"{size:,}" for size in data_set.sizes]
        shape = "×".join(map(str, data_set.shape))
        size = f"{data_set.megabytes} MB" if data_set.megabytes else "none"
        classes = "none" if data_set.captions else "10"
        rows.append((name, *sizes, shape, classes, size, state(name, root)))  # type: ignore[arg-type]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right_aligned = (1, 2, 4, 5)
    lines = (
        "  ".join(
            cell.rjust(width) if i in right_aligned else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def make(name: str, root: Path, **settings: Any) -> "ImageDataModule":
    """Constructs the data module of an image data set, or of the folder or CSV file of own images."""
    import datamodules

    if name not in DATA_SETS:
        own = {"folder": name} if user_path(name).is_dir() else {"labels": name}
        return datamodules.ImageFolder(root=str(root), **(own | settings))
    data: ImageDataModule = getattr(datamodules, DATA_SETS[name].class_name)(root=str(root), **settings)
    return data
