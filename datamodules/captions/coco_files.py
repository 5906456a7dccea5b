"""Reads COCO's captions from the official annotation files, and Karpathy's splits.

    captions_train2017.json   {"images": [{"id": 9, "file_name": "000000000009.jpg", …}, …],
                               "annotations": [{"image_id": 9, "id": 661611, "caption": "…"}, …], …}
    dataset_coco.json         {"images": [{"cocoid": 391895, "filepath": "val2014", "filename": "COCO_val2014_….jpg",
                               "split": "test", "sentences": [{"raw": "…", …}, …], …}, …], …}

Sources: https://cocodataset.org/#format-data; A. Karpathy, L. Fei-Fei, arXiv 1412.2306, whose splits of the 2014 images
(113,287 for training, 5,000 for validation and 5,000 for testing) are the ones that captioning papers report.

A file that is truncated or has another structure is refused. Bad images and captions are skipped and counted, or
refused as well, by the policy of `BadSamples`.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from common.ranges import check_range
from common.vocabulary import split_words
from datamodules.files.data_files import DataFileError

Bad = Literal["skip", "stop"]


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
        file_name: Name of the image file, without folders.
        captions: Captions as in the annotation file.
        folder: Folder of the image, if the annotation file names it.
        split: train, restval, val or test, if the annotation file names it.
    """

    file_name: str
    captions: list[str] = field(default_factory=list)
    folder: str = ""
    split: str = ""


def read_captions(file: Path, bad: BadSamples) -> dict[int, CocoImage]:
    """Reads an official annotation file: the images that have captions, by id, in rising order.

    Raises:
        DataFileError: If the file is missing, truncated or of another structure, or has a bad sample and the policy is
            to stop.
    """
    content = _read_json(file)
    images: dict[int, CocoImage] = {}
    for i, entry in enumerate(_list(content, "images", file)):
        number, name = _get(entry, "id", int, f"images[{i}]", file), _get(entry, "file_name", str, f"images[{i}]", file)
        if number in images:
            raise DataFileError(f"{file} has two images with the id {number}; get the official file again.")
        images[number] = CocoImage(_plain_name(name, file))
    for i, entry in enumerate(_list(content, "annotations", file)):
        number = _get(entry, "image_id", int, f"annotations[{i}]", file)
        caption = _get(entry, "caption", str, f"annotations[{i}]", file)
        if number not in images:
            bad.report("captions of images that their file does not list", f"{file} has no image with the id {number}")
        else:
            _add(caption, images[number], file, bad)
    return _with_captions(images, file, bad)


def read_karpathy(file: Path, bad: BadSamples) -> dict[int, CocoImage]:
    """Reads Karpathy's dataset_coco.json: the images by COCO's id, in rising order.

    Raises:
        DataFileError: As `read_captions`.
    """
    images: dict[int, CocoImage] = {}
    for i, entry in enumerate(_list(_read_json(file), "images", file)):
        where = f"images[{i}]"
        number = _get(entry, "cocoid", int, where, file)
        if number in images:
            raise DataFileError(f"{file} has the image {number} twice, perhaps in two splits; get the file again.")
        names = [_plain_name(_get(entry, key, str, where, file), file) for key in ("filename", "filepath", "split")]
        if names[2] not in ("train", "restval", "val", "test"):
            raise DataFileError(
                f"{file}: {where} is in the split {names[2]!r}; it must be train, restval, val or test."
            )
        images[number] = CocoImage(names[0], [], *names[1:])
        for sentence in _get(entry, "sentences", list, where, file):
            _add(_get(sentence, "raw", str, where, file), images[number], file, bad)
    return _with_captions(images, file, bad)


def _add(caption: str, image: CocoImage, file: Path, bad: BadSamples) -> None:
    if split_words(caption):
        image.captions.append(" ".join(caption.split()))  # a few of the official ones hold line breaks
    else:
        bad.report("empty captions", f"{file} has a caption of {image.file_name} without a word in it: {caption!r}")


def _with_captions(images: dict[int, CocoImage], file: Path, bad: BadSamples) -> dict[int, CocoImage]:
    for image in images.values():
        if not image.captions:
            bad.report("images without a caption", f"{file} has no caption of {image.file_name}")
    return {number: images[number] for number in sorted(images) if images[number].captions}


def _read_json(file: Path) -> Any:
    try:
        with file.open(encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError as error:
        raise DataFileError(
            f"{file} does not exist; set root to the folder above your own copy of COCO, or get COCO with python -m "
            "pipelines.data download coco."
        ) from error
    except (ValueError, RecursionError) as error:  # a JSON error or wrong UTF-8, both of which are ValueErrors
        raise DataFileError(f"{file} is not JSON, or is truncated ({error}); delete it and get it again.") from error


def _list(content: Any, key: str, file: Path) -> list[Any]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise DataFileError(
            f"{file} has no list of {key!r}, so it is not a file of COCO captions; get the official one."
        )
    entries: list[Any] = content[key]
    return entries


def _get(entry: Any, key: str, kind: type, where: str, file: Path) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataFileError(
            f"{file}: {where} has no {key!r} of type {kind.__name__}, so it is not a file of COCO captions; "
            "get the official one."
        )
    return value


def _plain_name(name: str, file: Path) -> str:
    """Returns the name if it has no folders, which could lead out of the data's own folder."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise DataFileError(f"{file} names {name!r}, which is not a name without folders; get the official file.")
    return name
