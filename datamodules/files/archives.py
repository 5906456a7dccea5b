"""Unpacks archives so that nothing in them decides where bytes go, or how many.

extract_tar(archive, root / "cifar-10-batches-py", CIFAR10_MEMBERS)
"""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Final

from datamodules.files.data_files import DataFileError
from datamodules.files.data_folder import DownloadError, fill_folder, storage_errors

_BLOCK_BYTES: Final = 1 << 16


def extract_tar(archive: Path, folder: Path, members: Collection[str] | None = None, max_bytes: int = 1 << 30) -> Path:
    """Unpacks one folder of a `.tar.gz`; all of its files appear at once, or none.

    Only plain files directly inside the archive's folder are ever written, as new files under their last name, so that
    nothing in the archive decides where bytes go.

    Args:
        archive: the `.tar.gz`.
        folder: the folder to make; its name is also the name of the folder inside the archive.
        members: the names of the files wanted; if all are there already, nothing happens. None takes every file and
            replaces those that are there.
        max_bytes: how long the unpacked archive may be, other files and headers included.

    Returns:
        `folder`.

    Raises:
        DataFileError: the archive is missing, damaged, too large, lacks a file, or holds a link or a path outside its
            folder.
        DownloadError: the folder cannot be written.
    """
    return fill_folder(
        folder,
        lambda: members is not None and all((folder / name).is_file() for name in members),
        lambda temporary: _unpack(archive, folder.name, temporary, members, max_bytes),
    )


class _BoundedGzip(gzip.GzipFile):
    """A gzip file that unpacks to a bounded length; `tarfile` itself bounds neither headers nor padding."""

    def __init__(self, archive: Path, max_bytes: int) -> None:
        super().__init__(archive, "rb")
        self._left = max_bytes

    def read(self, size: int | None = -1) -> bytes:
        try:
            block = super().read(size)
        except (EOFError, zlib.error, OSError) as error:
            raise tarfile.ReadError(str(error)) from error
        self._left -= len(block)
        if self._left < 0:
            raise tarfile.ReadError("it unpacks to far more than its files need")
        return block


def _unpack(archive: Path, top: str, into: Path, members: Collection[str] | None, max_bytes: int) -> None:
    """Writes the members into an empty folder and reads the archive to its end, which verifies gzip's checksum."""
    if not archive.is_file():
        raise DataFileError(f"{archive} does not exist; download it first.")
    try:
        with _BoundedGzip(archive, max_bytes) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    parts = member.name.split("/")
                    if parts[0] != top or ".." in parts:
                        raise tarfile.ReadError(f"it holds {member.name[:80]!r}, which lies outside {top}")
                    # A sparse file is refused too, because it can be longer than the bytes that come for it.
                    if not (member.isfile() or member.isdir()) or member.issparse():
                        raise tarfile.ReadError(f"it holds {member.name[:80]!r}, which is not a plain file")
                    source = tar.extractfile(member)
                    if source is None or len(parts) != 2 or (members is not None and parts[1] not in members):
                        continue
                    with storage_errors(into / parts[1]), (into / parts[1]).open("wb") as file:
                        shutil.copyfileobj(source, file)
            while stream.read(_BLOCK_BYTES):
                pass
        if missing := sorted(name for name in members or () if not (into / name).is_file()):
            raise tarfile.ReadError(f"it lacks {', '.join(missing)}")
    except DownloadError:
        raise
    except (tarfile.TarError, OSError, ValueError) as error:  # ValueError comes from garbled extended headers.
        problem = f"{archive} is not a whole archive of {top} ({error})"
        raise DataFileError(f"{problem}; delete it and download it again.") from error
