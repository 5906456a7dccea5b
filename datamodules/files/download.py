"""Downloads data files: with resume, verified by checksum, and once for all processes that share the folder.

    archive = fetch(official_files.CIFAR10, root)

An unfinished download stays as `.NAME.part`, and the next call resumes it. A file gets its name only when it is
complete.
"""

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from tqdm import tqdm

from common.errors import UserError
from common.proxy import proxy_of
from datamodules.files.data_folder import DownloadError, locked, storage_errors

TIMEOUT_SECONDS: Final = 10.0
"""How long a mirror may take to answer, or pause while it sends, before it counts as unavailable."""

_BLOCK_BYTES: Final = 1 << 16


class _MirrorError(Exception):
    """A mirror can't serve the file; the message is the reason."""


class _InterruptedError(_MirrorError):
    """The transfer ended early; the bytes that arrived are kept, and the same mirror may send the rest."""


@dataclass(frozen=True)
class Download:
    """One file to download.

    Args:
        name: Name of the file on disk, without folders.
        urls: Addresses of the mirrors (http or https), tried in this order.
        checksum: `sha256:` or `md5:` and the hexadecimal digest of the file.
        size: Size of the file in bytes, if known.

    Raises:
        ValueError: If the name has a folder, there is no mirror or one without http(s), or the checksum has another
            form.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str
    size: int | None = None

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name:
            raise UserError(f"name is {self.name!r}; it must be a file name without folders.")
        if not self.urls or not all(url.startswith(("http://", "https://")) for url in self.urls):
            raise UserError(f"urls is {self.urls!r}; it must have at least one address, all with http or https.")
        if not re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", self.checksum):
            raise UserError(f"checksum is {self.checksum!r}; it must be sha256:DIGEST or md5:DIGEST.")


def fetch(download: Download, folder: Path) -> Path:
    """Downloads a file into a folder, unless it exists there with the right checksum.

    Any number of processes, on any number of machines that share the folder, may call this at once: one downloads while
    the others wait. A folder that already has the right file may be read-only.

    Args:
        download: File to download.
        folder: Folder of the file, created if it does not exist.

    Returns:
        Path of the complete file, its checksum verified.

    Raises:
        DownloadError: If no mirror delivers the right file, or the folder can't be written.
    """
    target = folder / download.name
    if _matches(target, download.checksum):
        return target
    part = folder / f".{download.name}.part"
    with locked(folder / f".{download.name}.lock"):
        if _matches(target, download.checksum):
            return target
        failures = []
        for url in download.urls:
            try:
                _fetch_from(url, download, part)
            except _MirrorError as error:
                failures.append(f"{url} ({error})")
                continue
            with storage_errors(target):
                os.replace(part, target)
            return target
    raise DownloadError(
        f"{download.name} could not be downloaded from {' or '.join(failures)}; "
        f"check the network and try again, or put the file at {target.absolute()} by hand."
    )


def _matches(path: Path, checksum: str) -> bool:
    """Whether the file exists with this checksum."""
    algorithm, _, digest = checksum.partition(":")
    try:
        with path.open("rb") as file:
            # The checksum only detects damage; with usedforsecurity=False md5 works on machines that forbid it.
            hash_ = hashlib.file_digest(file, partial(hashlib.new, algorithm, usedforsecurity=False))
    except OSError:
        return False
    return hash_.hexdigest() == digest


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _fetch_from(url: str, download: Download, part: Path) -> None:
    """Completes and verifies the partial file from one mirror, as long as every attempt adds bytes."""
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
            # The wrong bytes of a resumed file may come from an earlier mirror, so this one gets another attempt.
            if not resumed:
                raise _MirrorError(f"sent a file whose checksum is not {download.checksum}")
        furthest = max(furthest, _size(part))


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Returns what opens a URL through the proxy that the environment sets for it, ALL_PROXY included.

    Raises:
        _MirrorError: If it is a SOCKS proxy, which urllib would take for an HTTP proxy.
    """
    proxy = proxy_of(url)
    if proxy is not None and proxy.startswith("socks"):
        raise _MirrorError("its proxy is a SOCKS proxy, which downloads can't use; set HTTPS_PROXY to an HTTP proxy")
    if proxy is not None:
        handler = urllib.request.ProxyHandler({urlsplit(url).scheme: proxy})
    elif urllib.request.getproxies_environment():
        handler = urllib.request.ProxyHandler({})  # none of them is for this server
    else:
        handler = urllib.request.ProxyHandler()  # that of the system, on macOS
    return urllib.request.build_opener(handler)


def _transfer(url: str, download: Download, part: Path) -> None:
    """Appends the missing bytes to the partial file; returns when the mirror has no more."""
    if part.exists() and not os.access(part, os.W_OK):  # what another user left
        with storage_errors(part):
            part.unlink()
    have = _size(part)
    if download.size is not None and have >= download.size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "lightning-231n"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = cast(HTTPResponse, _opener(url).open(request, timeout=TIMEOUT_SECONDS))
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:
                return  # there are no more bytes; the checksum shows whether the file is right
            raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _MirrorError(str(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise _MirrorError(str(error) or type(error).__name__) from error

    with response:
        start, total = _announced(response)
        if start not in (0, have):
            part.unlink(missing_ok=True)
            raise _InterruptedError(f"sent bytes from {start} instead of {have}")
        if download.size is not None and total not in (None, download.size):
            raise _MirrorError(f"offers {total} bytes instead of {download.size}")
        total = total or download.size
        with (
            storage_errors(part),
            part.open("ab" if start else "wb") as file,
            tqdm(
                desc=download.name,
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                disable=None,  # no bar if stderr is not a terminal
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
    """Returns the offset of the first byte of the response, and the size of the complete file if it is announced."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if match is None:
            raise _MirrorError("sent a part of the file without its range")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """Yields bytes as they arrive; unlike `read`, `read1` loses none when the connection breaks."""
    while True:
        try:
            block = response.read1(_BLOCK_BYTES)
        except (OSError, HTTPException) as error:
            raise _InterruptedError(str(error) or type(error).__name__) from error
        if not block:
            return
        yield block
