"""Image files that a user gives by name or by folder, and what can't be used of them.

A folder is searched with all its subfolders, also linked ones. Left out and counted by kind are files of other formats
and hidden files: what systems keep beside images, such as `._cat.jpg`, `.ipynb_checkpoints` and `__MACOSX`, and
thumbnails of storage devices. A file that can't be decoded is skipped: it is recorded by its
index, and replaced by a black image in the batch.

Shapes: B images of a batch.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from common.errors import UserError
from common.messages.counting import count_kind
from common.user_paths import user_path
from datamodules.files.image_decoding import decodable_formats

_HIDDEN: Final = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN"}  # besides names that begin with a dot
_HEIC: Final = {".heic", ".heif", ".hif"}
_CONVERTIBLE: Final = {".arw", ".cr2", ".cr3", ".dng", ".jxl", ".nef", ".orf", ".pdf", ".raf", ".rw2", ".svg"}
_CLEARLY: Final = 0.15  # distance of the mean from 0.5 from which images count as dark or light
_NAMED: Final = 10  # unreadable files that a report names; the others are counted


@dataclass
class GivenImages:
    """Image files, what the search left out, and which files could not be decoded.

    Attributes:
        files: Image files, in the order in which they were given, sorted within each folder.
        names: Name of each file, with its subfolders below the folder given.
        left_out: Number of files left out, by kind.
        unreadable: Error message of each file that could not be decoded, by its index in `files`.
        brightness: Mean of each decoded image, in [0, 1], by its index in `files`.
    """

    files: list[Path]
    names: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: dict[int, str] = field(default_factory=dict)
    brightness: dict[int, float] = field(default_factory=dict)

    def read(self, indices: Sequence[int], decode: Callable[[Path], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Decodes files by their indices: (B, *shape) uint8, black where a file can't be read."""
        images = np.zeros((len(indices), *shape), np.uint8)
        for row, index in enumerate(indices):
            try:
                images[row] = decode(self.files[index])
                self.brightness[index] = float(images[row].mean()) / 255
            except UserError as error:
                self.unreadable[index] = str(error)
        return images

    def check_any_readable(self) -> None:
        """Refuses images of which, after all were decoded, none could be.

        Raises:
            ValueError: If no file could be decoded.
        """
        if len(self.unreadable) < len(self.files):
            return
        first = next(iter(self.unreadable.values()))
        raise UserError(first if len(self.files) == 1 else f"None of the {len(self.files)} images can be read: {first}")

    def report(self, training_brightness: float | None = None) -> list[str]:
        """Returns lines on what was left out, which files could not be decoded, and images that look inverted.

        Args:
            training_brightness: Mean of the model's training images, in [0, 1], if it is known.
        """
        lines = []
        if self.left_out:
            lines.append(f"left out of the folders: {kinds_left_out(self.left_out)}")
        if self.unreadable:
            rest = len(self.unreadable) - _NAMED
            lines.append(f"{len(self.unreadable):,} of {len(self.files):,} images can't be read and were left out:")
            lines += [f"  {self.unreadable[index]}" for index in sorted(self.unreadable)[:_NAMED]]
            lines += [f"  … and {rest:,} more"] if rest > 0 else []
        if self.brightness and training_brightness is not None:
            mean = sum(self.brightness.values()) / len(self.brightness)
            offsets = mean - 0.5, training_brightness - 0.5
            if offsets[0] * offsets[1] < 0 and min(map(abs, offsets)) >= _CLEARLY:
                ours, theirs = ("light", "dark") if offsets[0] > 0 else ("dark", "light")
                lines.append(
                    f"the images are {ours} (mean {mean:.2f} of 1) and the model's training images {theirs} "
                    f"({training_brightness:.2f}), so predictions may be wrong; --invert inverts the images"
                )
        return lines


def find_images(paths: Sequence[str]) -> GivenImages:
    """Returns the files given, and all image files in the folders given, sorted within each folder.

    Raises:
        ValueError: If there are no paths, a path is no file or folder, or a folder has no images.
    """
    if not paths:
        raise UserError("No images were given; set images to image files or folders.")
    given = GivenImages([])
    for path in map(user_path, paths):
        if path.is_dir():
            left_out: Counter[str] = Counter()
            images = sorted(image_files_below(path, left_out))
            if not images:
                besides = f" It has {kinds_left_out(left_out)}." if left_out else ""
                raise UserError(
                    f"{path} holds no image files; give a folder with PNG, JPEG or other images in it.{besides}"
                )
            given.files += images
            given.names += [image.relative_to(path).as_posix() for image in images]
            given.left_out += left_out
        elif path.is_file():
            given.files.append(path)
            given.names.append(path.name)
        elif path.exists():
            raise UserError(f"{path} is neither a file nor a folder; give image files or folders that hold some.")
        else:
            raise UserError(f"{path} does not exist; give image files or folders that hold some.")
    return given


def image_files_below(folder: Path, left_out: Counter[str]) -> list[Path]:
    """Returns the image files of a folder and its subfolders, and counts the other files by kind in `left_out`."""

    def unopened(error: OSError) -> None:
        left_out["folders that can't be opened"] += 1

    images, visited = [], set()
    for path, folders, names in os.walk(folder, onerror=unopened, followlinks=True):
        status = Path(path).stat()
        if (status.st_dev, status.st_ino) in visited:  # a link back to a folder above, or a second link to this one
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        left_out["hidden folders"] += sum(map(_is_hidden, folders))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in names:
            file = Path(path, name)
            if _is_hidden(name):
                left_out["hidden files"] += 1
            elif file.suffix.lower() not in _suffixes():
                left_out[file.suffix.lower() or "without a suffix"] += 1
            elif file.exists() and not file.is_file():  # a pipe or device, which could be read without end
                left_out["not plain files"] += 1
            else:  # a link to nowhere is among the images, and named as one that can't be read
                images.append(file)
    left_out += Counter()  # without kinds that none belongs to
    return images


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _HIDDEN


@cache
def _suffixes() -> frozenset[str]:
    formats = decodable_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def kinds_left_out(left_out: Counter[str]) -> str:
    """Lists kinds of files with their numbers, and what would make images of them readable."""
    text = ", ".join(count_kind(number, kind) for kind, number in sorted(left_out.items()))
    kinds = set(left_out)
    if kinds & _HEIC:
        text += "; HEIC is read after pip install pillow-heif, or convert it to JPEG"
    if kinds & _CONVERTIBLE:
        text += f"; convert {', '.join(sorted(kinds & _CONVERTIBLE))} to PNG or JPEG to have them read"
    return text
