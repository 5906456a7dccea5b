"""Reads COCO's captions from the official annotation files, and Karpathy's splits.

    captions_train2017.json   {"images": [{"id": 9, "file_name": "000000000009.jpg", …}, …],
                               "annotations": [{"image_id": 9, "id": 661611, "caption": "…"}, …], …}
    dataset_coco.json         {"images": [{"cocoid": 391895, "filepath": "val2014", "filename": "COCO_val2014_….jpg",
                               "split": "test", "sentences": [{"raw": "…", …}, …], …}, …], …}

Sources: https://cocodataset.org/#format-data; A. Karpathy, L. Fei-Fei, arXiv 1412.2306, whose splits of the 2014 images
(113,287 for training, 5,000 for validation and 5,000 for testing) are the ones that captioning papers report.

Annotations of one's own are read likewise: ids may be text, and file names may have folders. A file that is truncated
or has another structure is refused. Bad images and captions are skipped and counted, or refused as well, by the policy
of `BadSamples`.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from common.commands import command
from common.ranges import check_range
from common.vocabulary import split_words
from datamodules.files.data_files import DataFileError

Bad = Literal["skip", "stop"]
ImageId = int | str


@dataclass
class BadSamples:
    """Policy for images and captions that can't be used.

    Args:
        policy: skip to leave them out and count them, or stop at the first.
        skipped: Number of skipped samples by kind of problem.

    Raises:
        ValueError: If the policy is unknown.
    """

    policy: Bad
    skipped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        check_range("bad", self.policy, self.policy in get_args(Bad), "skip (and count) or stop")

    def report(self, kind: str, example: str, count: int = 1) -> None:
        """Counts bad samples as skipped, or stops at them.

        Args:
            kind: What the samples are, in the plural, such as "empty captions".
            example: Clause about one of them, for the message.
            count: Number of the samples.

        Raises:
            DataFileError: If the policy is to stop.
        """
        if self.policy == "stop":
            raise DataFileError(f"{example}; repair the data, or set bad to skip, which leaves such samples out.")
        self.skipped[kind] += count


@dataclass
class CocoImage:
    """An image and its captions.

    Args:
        file_name: Name of the image file, with folders below that of the images; empty if the file does not say.
        captions: Captions as in the annotation file.
        folder: Folder of the image, if the annotation file names it.
        split: train, restval, val or test, if the annotation file names it.
    """

    file_name: str
    captions: list[str] = field(default_factory=list)
    folder: str = ""
    split: str = ""


def read_captions(file: Path, bad: BadSamples, need_files: bool = True) -> dict[ImageId, CocoImage]:
    """Reads an annotation file in COCO's format: the images that have captions, by id, in rising order.

    Args:
        file: Annotation file.
        bad: Policy for images and captions that can't be used.
        need_files: Whether the names of the image files are needed; if not, the list of images may be missing.

    Raises:
        DataFileError: If the file is missing, truncated or of another structure, or has a bad sample and the policy is
            to stop.
    """
    content = _read_json(file)
    images: dict[str, tuple[ImageId, CocoImage]] = {}  # by the id's text: some programs write ids as text in one list
    captions_alone = not need_files and isinstance(content, dict) and "images" not in content
    for i, entry in enumerate([] if captions_alone else _list(content, "images", file)):
        number, name = _id(entry, "id", f"images[{i}]", file), _get(entry, "file_name", str, f"images[{i}]", file)
        if str(number) in images:
            raise DataFileError(f"{file} has two images with the id {number}; give each image an id of its own.")
        images[str(number)] = number, CocoImage(_relative_name(name, file))
    for i, entry in enumerate(_list(content, "annotations", file)):
        number = _id(entry, "image_id", f"annotations[{i}]", file)
        caption = _caption(entry, f"annotations[{i}]", file)
        if captions_alone:
            images.setdefault(str(number), (number, CocoImage("")))
        if str(number) not in images:
            bad.report("captions of images that their file does not list", f"{file} has no image with the id {number}")
        else:
            _add(caption, images[str(number)][1], file, bad)
    return _with_captions(dict(images.values()), file, bad)


def read_karpathy(file: Path, bad: BadSamples) -> dict[ImageId, CocoImage]:
    """Reads Karpathy's dataset_coco.json: the images by COCO's id, in rising order.

    Raises:
        DataFileError: As `read_captions`.
    """
    images: dict[ImageId, CocoImage] = {}
    for i, entry in enumerate(_list(_read_json(file), "images", file)):
        where = f"images[{i}]"
        number = _id(entry, "cocoid", where, file)
        if number in images:
            raise DataFileError(f"{file} has the image {number} twice, perhaps in two splits; get the file again.")
        name, folder = (_relative_name(_get(entry, key, str, where, file), file) for key in ("filename", "filepath"))
        split = _get(entry, "split", str, where, file)
        if split not in ("train", "restval", "val", "test"):
            raise DataFileError(f"{file}: {where} is in the split {split!r}; it must be train, restval, val or test.")
        images[number] = CocoImage(name, [], folder, split)
        for sentence in _get(entry, "sentences", list, where, file):
            _add(_get(sentence, "raw", str, where, file), images[number], file, bad)
    return _with_captions(images, file, bad)


def _add(caption: str, image: CocoImage, file: Path, bad: BadSamples) -> None:
    if split_words(caption):
        image.captions.append(" ".join(caption.split()))  # a few of the official ones hold line breaks
    else:
        bad.report("empty captions", f"{file} has a caption of {image.file_name} without a word in it: {caption!r}")


def _with_captions(images: dict[ImageId, CocoImage], file: Path, bad: BadSamples) -> dict[ImageId, CocoImage]:
    for image in images.values():
        if not image.captions:
            bad.report("images without a caption", f"{file} has no caption of {image.file_name}")
    rising = sorted(images, key=lambda number: (isinstance(number, str), number))  # numbers, then text
    return {number: images[number] for number in rising if images[number].captions}


def _read_json(file: Path) -> Any:
    """Reads JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark."""
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError as error:
        data_set = "coco2014" if "2014" in file.name or file.name == "dataset_coco.json" else "coco"
        raise DataFileError(
            f"{file} does not exist; set root to the folder above your own copy of COCO, or get COCO "
            f"with {command('data', 'download', data_set)}."
        ) from error
    except UnicodeDecodeError as error:
        raise DataFileError(f"{file} is not UTF-8 text ({error}); save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise DataFileError(
            f"{file} is not JSON, or is truncated ({error}); correct it, or get the official file again."
        ) from error


def _list(content: Any, key: str, file: Path) -> list[Any]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise DataFileError(
            f"{file} has no list of {key!r}, so it is not a file of COCO captions; see docs/captioning.md for the "
            "format."
        )
    entries: list[Any] = content[key]
    return entries


def _get(entry: Any, key: str, kind: type, where: str, file: Path) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _lacks(key, f"of type {kind.__name__}", where, file)
    return value


def _lacks(key: str, kind: str, where: str, file: Path) -> DataFileError:
    return DataFileError(
        f"{file}: {where} has no {key!r} {kind}, so it is not a file of COCO captions; see docs/captioning.md for the "
        "format."
    )


def _id(entry: Any, key: str, where: str, file: Path) -> ImageId:
    """Returns a number or text; a whole number such as 7.0 is what tables make of an integer."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _lacks(key, "that is an integer or text", where, file)
    return value


def _caption(entry: Any, where: str, file: Path) -> str:
    """Returns the caption; empty if it is null or NaN, as tables write a missing one."""
    value = entry.get("caption", 0) if isinstance(entry, dict) else 0
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(_get(entry, "caption", str, where, file))


def _relative_name(name: str, file: Path) -> str:
    """Returns a name with folders below the folder of the images, written with slashes.

    Raises:
        DataFileError: If the name leads out of that folder.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts  # as Windows writes folders
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise DataFileError(
            f"{file} names {name!r}, which leads out of the folder of the images; give names relative to it."
        )
    return "/".join(parts)
