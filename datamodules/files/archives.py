"""Safe extraction of tar archives: rejects paths outside the target folder and limits the unpacked size.

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

    It writes only plain files directly inside the archive's folder, as new files under the last part of their path.

    Args:
        archive: The `.tar.gz` file.
        folder: Folder to create; the folder inside the archive has the same name.
        members: Names of the files to unpack; if all of them exist, nothing happens. None unpacks every file and
            replaces existing ones.
        max_bytes: Largest size of the unpacked archive in bytes, other files and headers included.

    Returns:
        `folder`.

    Raises:
        DataFileError: If the archive is missing, damaged or too large, lacks a file, or holds a link or a path outside
            its folder.
        DownloadError: If the folder can't be written.
    """
    return fill_folder(
        folder,
        lambda: members is not None and all((folder / name).is_file() for name in members),
        lambda temporary: _unpack(archive, folder.name, temporary, members, max_bytes),
    )


class _BoundedGzip(gzip.GzipFile):
    """A gzip file that unpacks to a bounded size; `tarfile` bounds neither headers nor padding."""

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
            raise tarfile.ReadError("it unpacks to far more than the size of its files")
        return block


def _unpack(archive: Path, top: str, into: Path, members: Collection[str] | None, max_bytes: int) -> None:
    """Writes the members to an empty folder and reads the archive to its end, which verifies gzip's checksum."""
    if not archive.is_file():
        raise DataFileError(f"{archive} does not exist; download it first.")
    try:
        with _BoundedGzip(archive, max_bytes) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    parts = member.name.split("/")
                    if parts[0] != top or ".." in parts:
                        raise tarfile.ReadError(f"it holds {member.name[:80]!r}, which lies outside {top}")
                    # A sparse file is refused too, since it can be larger than its content in the archive.
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
    except (tarfile.TarError, OSError, ValueError) as error:  # damaged extended headers raise a ValueError
        problem = f"{archive} is not a complete archive of {top} ({error})"
        raise DataFileError(f"{problem}; delete it and download it again.") from error
