"""Image files with their classes and splits, from folders or from a CSV file; their content is not read.

    photos/cat/1.jpg                one folder for each class, in which images may lie in subfolders
    photos/train/cat/1.jpg          the same for each split: train, and val (valid, validation) and test if they exist
    labels.csv                      columns path and label, and split if the splits are given

Classes are in alphabetical order, or in numerical order if all names are numbers. A folder of splits is one whose
`train` holds folders and no images; a class may be called train otherwise.

Shapes: N image files, K classes.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from common.errors import UserError
from common.messages.counting import count
from common.user_paths import user_path
from datamodules.files.given_images import image_files_below, kinds_left_out

SPLITS: Final = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
"""Names of splits in folders and CSV files, and which split each is."""

_NAMED: Final = 5  # classes or lines that a message names; the others are counted


@dataclass(frozen=True)
class LabeledFiles:
    """Image files with their classes.

    Attributes:
        class_names: Names of the K classes.
        files: The N files.
        labels: Class of each file, (N,) int64.
        splits: Split of each file: train, val or test; empty where it has yet to be drawn.
        left_out: Number of files left out of the folders, by kind.
    """

    class_names: tuple[str, ...]
    files: list[Path]
    labels: Tensor
    splits: list[str]
    left_out: Counter[str] = field(default_factory=Counter)

    def indices(self, *splits: str) -> Tensor:
        """Returns the indices of the files of some splits in ascending order, int64."""
        return torch.tensor([i for i, split in enumerate(self.splits) if split in splits], dtype=torch.int64)


def find_labeled_files(folder: str | None, labels: str | None) -> LabeledFiles:
    """Lists the image files of a folder with one folder for each class, or those of a CSV file.

    Args:
        folder: Folder of the classes or splits, or of the paths in the CSV file; None takes the CSV file's folder.
        labels: CSV file with columns path and label; None takes the names of folders as classes.

    Raises:
        ValueError: If neither is given, a folder or file does not exist, there are fewer than two classes, a class
            has no images, the splits have different classes, or the CSV file is not as described above.
    """
    if folder is None and labels is None:
        raise UserError(
            "folder is not set; give a folder with one folder of images for each class, or set labels to a CSV file."
        )
    base = user_path(folder) if folder is not None else user_path(labels or "").parent
    if not base.is_dir():
        problem = "is a file" if base.exists() else "does not exist"
        raise UserError(f"The folder {base} {problem}; give a folder with one folder of images for each class.")
    found = _of_folder(base) if labels is None else _of_csv(user_path(labels), base)
    where = base if labels is None else labels
    if len(found.class_names) < 2:
        raise UserError(
            f"{where} has one class, {found.class_names[0]}; give images of at least two classes, "
            "each in a folder of its own or with a label of its own."
        )
    _check_classes_of_splits(found, str(where), strict=labels is None)
    return found


def _of_folder(base: Path) -> LabeledFiles:
    """Lists the classes of a folder, or of the splits in it."""
    train = base / "train"
    by_split = train.is_dir() and bool(_folders(train)) and not _images_in(train)
    if not by_split:
        return _of_classes({"": base})
    splits: dict[str, Path] = {}
    for path in _folders(base):
        split = SPLITS.get(path.name.lower())
        if split in splits:
            raise UserError(f"{base} has both {splits[split].name} and {path.name}; keep one of the two folders.")
        if split is not None:
            splits[split] = path
    return _of_classes(splits)


def _of_classes(splits: Mapping[str, Path]) -> LabeledFiles:
    """Lists the images in the class folders of each split's folder."""
    names = _sorted_names({path.name for folder in splits.values() for path in _folders(folder)})
    files, labels, of_split, left_out = list[Path](), list[int](), list[str](), Counter[str]()
    for split, folder in splits.items():
        classes, empty = _folders(folder), []
        if not classes:
            loose = len(_images_in(folder))
            has = f"holds {count(loose, 'image')} and no folders" if loose else "holds no folders"
            raise UserError(
                f"{folder} {has}; put the images of each class in a folder of its own, or set labels to a CSV file "
                "with the columns path and label."
            )
        for path in classes:
            images = sorted(image_files_below(path, left_out))
            files += images
            labels += [names.index(path.name)] * len(images)
            of_split += [split] * len(images)
            empty += [] if images else [path.name]
        if empty:
            others = f" They hold {kinds_left_out(left_out)}." if left_out else ""
            raise UserError(
                f"{folder} has {count(len(empty), 'class folder')} without images, {listed(empty)}; put images into "
                f"each of them, or remove it.{others}"
            )
    return LabeledFiles(names, files, torch.tensor(labels, dtype=torch.int64), of_split, left_out)


def _of_csv(file: Path, base: Path) -> LabeledFiles:
    """Reads a CSV file with columns path and label, and split."""
    rows = _rows(file)
    missing: list[str] = []
    labels: dict[Path, str] = {}
    splits: dict[Path, str] = {}
    for number, row in rows:
        path, label, split = (str(row.get(name) or "").strip() for name in ("path", "label", "split"))
        if not path or not label:
            raise UserError(f"{file}, line {number}: there is no {'label' if path else 'path'}; each row needs both.")
        if "split" in row and split.lower() not in SPLITS:
            raise UserError(f"{file}, line {number}: split is {split!r}; it must be train, val or test.")
        image = base / path
        if not image.is_file():
            missing.append(f"{path} (line {number})")
        elif labels.get(image, label) != label:
            raise UserError(
                f"{file}, line {number}: {path} is {label!r} here and {labels[image]!r} above; give an image one label."
            )
        labels[image], splits[image] = label, SPLITS.get(split.lower(), "")
    if missing:
        raise UserError(
            f"{file} names {count(len(missing), 'file')} not found in {base}, {listed(missing)}; correct the paths, or "
            "set folder to the folder that they start from."
        )
    names = _sorted_names(set(labels.values()))
    of_class = {name: i for i, name in enumerate(names)}
    numbers = torch.tensor([of_class[label] for label in labels.values()], dtype=torch.int64)
    return LabeledFiles(names, list(labels), numbers, list(splits.values()))


def _rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Returns the rows of a CSV file with their line numbers, by lower-case column names."""
    if not file.is_file():
        raise UserError(f"The CSV file of the labels {file} does not exist; give one with the columns path and label.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not text in UTF-8; save it as CSV in UTF-8.") from error
    header = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")  # ; and tab: what spreadsheets export
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    columns = [name.strip().lower() for name in reader.fieldnames or []]
    if lacking := [name for name in ("path", "label") if name not in columns]:
        raise UserError(
            f"{file} has no column {' or '.join(lacking)}: its first line is {header.strip()[:80]!r}; it must name the "
            "columns path and label, and may name split."
        )
    reader.fieldnames = columns
    rows = [(reader.line_num, row) for row in reader]
    if not rows:
        raise UserError(f"{file} has no rows after its first line; give a row for each image.")
    return rows


def _check_classes_of_splits(found: LabeledFiles, where: str, strict: bool) -> None:
    """Checks that the classes of val and test are those of train; `strict`: and those of train are in each of them."""
    present = {
        split: set(found.labels[found.indices(split)].tolist()) for split in dict.fromkeys(found.splits) if split
    }
    if not present:
        return
    train = present.pop("train", set())
    if not train:
        raise UserError(f"{where} has no images of the split train; mark those to train on as train.")
    for split, classes in present.items():
        only_here, only_train = ([found.class_names[i] for i in sorted(c)] for c in (classes - train, train - classes))
        if only_here or (strict and only_train):
            differences = [f"{listed(only_here)} only in {split}"] if only_here else []
            differences += [f"{listed(only_train)} only in train"] if strict and only_train else []
            raise UserError(
                f"The classes of train and {split} in {where} differ, {' and '.join(differences)}; give both the same "
                "classes, with the same names."
            )


def _folders(folder: Path) -> list[Path]:
    """The visible folders in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._@#$")


def _images_in(folder: Path) -> list[Path]:
    """The image files of a folder, without those in its subfolders."""
    return [file for file in image_files_below(folder, Counter()) if file.parent == folder]


def _sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    unique = set(names)
    return tuple(sorted(unique, key=int if all(name.isdecimal() for name in unique) else None))


def listed(names: Sequence[str]) -> str:
    """Joins names by commas, the first five of many, and counts the others."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
