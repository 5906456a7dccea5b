"""Checks where results are to be written before the work, and writes tables whose cells may be any file name."""

import csv
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common.atomic_files import atomic_write
from common.errors import UserError

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet evaluates a cell that begins with one of these


def check_out_file(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuses a file to write that is a folder, can't be written, or is one of the files that are read.

    Raises:
        ValueError: If the file can't be used.
        OSError: If a file stands where its folder should be.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder; set --out to the name of a file.")
    _check_writable(out, out.parent)
    if any(_same(out, file) for file in inputs):
        raise UserError(f"{out} is one of the files to read, which would be overwritten; set --out to another file.")


def check_out_folder(out: Path, inputs: Iterable[Path] = (), option: str = "--out") -> None:
    """Refuses a folder to write to that can't be written, or that holds one of the files that are read.

    Results are named after the images, so in the images' own folder they would replace images.

    Raises:
        ValueError: If the folder can't be used.
        OSError: If a file stands in its place.
    """
    _check_writable(out, out)
    for parent, file in {file.parent: file for file in inputs}.items():
        if _same(out, parent):
            raise UserError(
                f"{out} holds {file.name}, one of the images to read, which results could overwrite; set {option} to "
                "another folder."
            )


def _check_writable(out: Path, folder: Path) -> None:
    while not (folder.exists() or folder.is_symlink()):
        folder = folder.parent
    if not folder.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{out} can't be written, because {folder} may only be read; choose another path.")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist
        return False


def path_cell(file: Path) -> str:
    """Returns a path for a table: `./=1.png` instead of `=1.png`, which a spreadsheet would take for a formula."""
    text = str(file)
    return f"./{text}" if text.startswith(_FORMULA) else text


def write_csv(rows: Iterable[Sequence[Any]], file: Path) -> None:
    """Writes a table atomically in UTF-8; names of files that are not UTF-8 keep their bytes.

    Raises:
        OSError: If the file can't be written.
    """
    with (
        atomic_write(file) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        csv.writer(stream).writerows(rows)


def printable(file: Path | str) -> str:
    """Returns a path for the terminal, with escapes for bytes of a name that are not UTF-8."""
    return str(file).encode("utf-8", "backslashreplace").decode()


def print_report(lines: Iterable[str]) -> None:
    """Prints to standard error what was left out of the work."""
    for line in lines:
        print(printable(line), file=sys.stderr, flush=True)


def unique_names(files: Sequence[Path], suffixes: Sequence[str] = ("",), taken: Iterable[str] = ()) -> list[str]:
    """Returns a name for the results of each file: its own without the ending, numbered where two would be equal.

    Names differ in more than case, which some file systems ignore.

    Args:
        files: Files whose results are named.
        suffixes: What is added to a name for each of its results, such as "" and "_fooled".
        taken: Names of other results.
    """
    used = {name.casefold() for name in taken}
    stems = [file.stem.casefold() for file in files]
    names = []
    for index, file in enumerate(files):
        name = next(name for name in _candidates(file.stem, index, stems.count(stems[index]) > 1)
                    if not used & {f"{name}{suffix}".casefold() for suffix in suffixes})  # fmt: skip
        used |= {f"{name}{suffix}".casefold() for suffix in suffixes}
        names.append(name)
    return names


def _candidates(stem: str, index: int, repeated: bool) -> Iterator[str]:
    if not repeated:
        yield stem
    while True:
        stem = f"{stem}_{index}"
        yield stem
