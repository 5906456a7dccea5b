"""Downloads from a faulty server on this machine, and malicious archives."""

import errno
import gzip
import hashlib
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datamodules.files import download as module
from datamodules.files.archives import extract_tar
from datamodules.files.data_files import DataFileError
from datamodules.files.data_folder import DownloadError
from datamodules.files.download import Download, fetch
from datamodules.files.official_files import CIFAR10, CIFAR10_MEMBERS, FASHION_MNIST, MNIST

CONTENT = random.Random(231).randbytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@dataclass
class Mirror:
    """A web server with switchable faults that records the Range header of each request."""

    content: bytes = CONTENT
    ranges: bool = True
    status: int = 200
    cut_after: int | None = None
    delay: float = 0.0
    wrong_offset: bool = False
    announce: bool = True
    requests: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers["Range"]
        self.requests.append(asked)
        time.sleep(self.delay)
        start = int(asked[len("bytes=") : -1]) if asked and self.ranges else 0
        body = self.content[start:]
        if self.status != 200 or (start and not body):
            handler.send_error(self.status if self.status != 200 else 416)
            return
        handler.send_response(206 if asked and self.ranges else 200)
        if asked and self.ranges:
            first = start + 1 if self.wrong_offset else start
            handler.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        if self.announce:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cut_after])
        handler.close_connection = True


class QuietServer(ThreadingHTTPServer):
    """Prints no error when a client disconnects, as in half of these tests."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Mirror]]:
    """Two running mirrors."""
    monkeypatch.setenv("no_proxy", "*")
    made, servers = [], []
    for _ in range(2):
        mirror = Mirror()

        class Handler(BaseHTTPRequestHandler):
            served = mirror

            def do_GET(self) -> None:
                self.served.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = QuietServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        mirror.url = f"http://127.0.0.1:{server.server_port}/file.bin"
        made.append(mirror)
        servers.append(server)
    yield made
    for server in servers:
        server.shutdown()
        server.server_close()


def wanted(*mirrors: Mirror, size: int | None = len(CONTENT), checksum: str = SHA256) -> Download:
    return Download("file.bin", tuple(mirror.url for mirror in mirrors), checksum, size)


def part_of(folder: Path) -> Path:
    return folder / ".file.bin.part"


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("announce", [True, False])
def test_a_file_arrives_whole_and_once(tmp_path: Path, mirrors: list[Mirror], size: int | None, announce: bool) -> None:
    mirrors[0].announce = announce
    folder = tmp_path / "made" / "on the way"
    path = fetch(wanted(mirrors[0], size=size), folder)
    assert path == folder / "file.bin" and path.read_bytes() == CONTENT
    assert not part_of(folder).exists()
    fetch(wanted(mirrors[0], size=size), folder)
    assert mirrors[0].requests == [None]


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_without_a_scheme_is_used(
    tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv(variable, mirrors[0].url.split("/")[2])
    mirrors[1].url = "http://data.invalid/file.bin"
    assert fetch(wanted(mirrors[1]), tmp_path).read_bytes() == CONTENT
    assert mirrors[0].requests == [None]
    monkeypatch.setenv("NO_PROXY", ".invalid")
    with pytest.raises(DownloadError, match=r"data\.invalid"):
        fetch(wanted(mirrors[1]), tmp_path / "directly")


def test_a_socks_proxy_is_named(tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1080")
    mirrors[0].url = "http://data.invalid/file.bin"
    with pytest.raises(DownloadError, match=r"its proxy is a SOCKS proxy, which downloads can"):
        fetch(wanted(mirrors[0]), tmp_path)


def test_md5_is_accepted_as_checksum(tmp_path: Path, mirrors: list[Mirror]) -> None:
    checksum = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"
    assert fetch(wanted(mirrors[0], checksum=checksum), tmp_path).read_bytes() == CONTENT


def test_a_file_with_another_content_is_replaced(tmp_path: Path, mirrors: list[Mirror]) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1] + b"?")
    assert fetch(wanted(mirrors[0]), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_partial_file_is_resumed(tmp_path: Path, mirrors: list[Mirror], size: int | None) -> None:
    part_of(tmp_path).write_bytes(CONTENT[:100_000])
    assert fetch(wanted(mirrors[0], size=size), tmp_path).read_bytes() == CONTENT
    assert mirrors[0].requests == ["bytes=100000-"]


def test_a_server_without_ranges_is_asked_once_and_sends_all(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].ranges = False
    part_of(tmp_path).write_bytes(CONTENT[:100_000])
    assert fetch(wanted(mirrors[0]), tmp_path).read_bytes() == CONTENT
    assert mirrors[0].requests == ["bytes=100000-"]


def test_a_complete_partial_file_needs_no_transfer(tmp_path: Path, mirrors: list[Mirror]) -> None:
    part_of(tmp_path).write_bytes(CONTENT)
    assert fetch(wanted(mirrors[0]), tmp_path).read_bytes() == CONTENT
    part_of(tmp_path).write_bytes(CONTENT)
    (tmp_path / "file.bin").unlink()
    assert mirrors[0].requests == []
    assert fetch(wanted(mirrors[0], size=None), tmp_path).read_bytes() == CONTENT  # the server answers 416
    assert mirrors[0].requests == ["bytes=300000-"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("stale", [b"old" * 1000, b"old" * 100_000, b"old" * 200_000])
def test_a_stale_partial_file_is_thrown_away(
    tmp_path: Path, mirrors: list[Mirror], stale: bytes, size: int | None
) -> None:
    part_of(tmp_path).write_bytes(stale)
    assert fetch(wanted(mirrors[0], size=size), tmp_path).read_bytes() == CONTENT
    assert mirrors[0].requests[-1] is None


def test_a_server_that_sends_another_range_is_asked_for_the_whole(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].wrong_offset = True
    part_of(tmp_path).write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match="sent bytes from 1001 instead of 1000"):
        fetch(wanted(mirrors[0]), tmp_path)
    assert not part_of(tmp_path).exists()
    assert fetch(wanted(mirrors[0]), tmp_path).read_bytes() == CONTENT


def test_a_connection_cut_again_and_again_is_resumed_to_the_end(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].cut_after = 70_000
    assert fetch(wanted(mirrors[0]), tmp_path).read_bytes() == CONTENT
    assert mirrors[0].requests == [None, *(f"bytes={n * 70_000}-" for n in range(1, 5))]


def test_a_cut_without_ranges_keeps_the_part_for_the_next_mirror(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].cut_after, mirrors[0].ranges = 120_000, False
    with pytest.raises(DownloadError, match="the connection ended after 120000 of 300000 bytes"):
        fetch(wanted(mirrors[0]), tmp_path)
    assert part_of(tmp_path).read_bytes() == CONTENT[:120_000]
    assert len(mirrors[0].requests) == 2
    assert fetch(wanted(*mirrors), tmp_path).read_bytes() == CONTENT
    assert mirrors[1].requests == ["bytes=120000-"]


def test_a_silent_server_times_out(tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    mirrors[0].delay = 0.5
    with pytest.raises(DownloadError, match="timed out"):
        fetch(wanted(mirrors[0]), tmp_path)


def test_a_wrong_checksum_moves_on_to_the_next_mirror(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].content = CONTENT[::-1]
    assert fetch(wanted(*mirrors), tmp_path).read_bytes() == CONTENT
    assert mirrors[1].requests == [None]  # nothing of the wrong file was kept


def test_a_wrong_checksum_everywhere_leaves_nothing(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].content = CONTENT[::-1]
    with pytest.raises(DownloadError, match=f"sent a file whose checksum is not {SHA256}"):
        fetch(wanted(mirrors[0]), tmp_path)
    assert not part_of(tmp_path).exists() and not (tmp_path / "file.bin").exists()


def test_a_login_page_is_refused_before_it_is_stored(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].content = b"<html>Please log in</html>"
    part_of(tmp_path).write_bytes(CONTENT[:20])
    with pytest.raises(DownloadError, match="offers 26 bytes instead of 300000"):
        fetch(wanted(mirrors[0]), tmp_path)
    assert part_of(tmp_path).read_bytes() == CONTENT[:20]


def test_more_bytes_than_announced_are_refused(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].content, mirrors[0].announce = CONTENT * 20, False
    with pytest.raises(DownloadError, match="checksum"):
        fetch(wanted(mirrors[0]), tmp_path)
    assert not part_of(tmp_path).exists()


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_mirror_that_refuses_is_followed_by_the_next(tmp_path: Path, mirrors: list[Mirror], status: int) -> None:
    mirrors[0].status = status
    assert fetch(wanted(*mirrors), tmp_path).read_bytes() == CONTENT


def test_when_all_mirrors_fail_one_sentence_says_why_and_what_to_do(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].status = 404
    closed = Mirror(url="http://127.0.0.1:9/file.bin")
    with pytest.raises(DownloadError) as caught:
        fetch(wanted(mirrors[0], closed), tmp_path)
    assert isinstance(caught.value, ValueError)
    assert re.fullmatch(
        rf"file\.bin could not be downloaded from {mirrors[0].url} \(HTTP 404 Not Found\) or {closed.url} "
        rf"\(.*refused\); check the network and try again, or put the file at {tmp_path}/file\.bin by hand\.",
        str(caught.value),
    )


def test_a_full_disk_is_named(tmp_path: Path, mirrors: list[Mirror]) -> None:
    part_of(tmp_path).symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"\.file\.bin\.part can't be written because the disk or quota is full"):
        fetch(wanted(*mirrors), tmp_path)
    assert mirrors[1].requests == []  # another mirror would not help


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, mirrors: list[Mirror]) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(DownloadError, match=r"can't be written \(.*\); make its folder writable or name another"):
        fetch(wanted(mirrors[0]), tmp_path / "taken" / "folder")
    assert mirrors[0].requests == []


def test_a_file_that_is_there_needs_neither_lock_nor_network(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    fetch(Download("file.bin", ("http://127.0.0.1:9/",), SHA256), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_another_user_of_the_folder_can_lock_and_replaces_what_is_left_of_a_download(
    tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(wanted(mirrors[0]), tmp_path)
    assert (tmp_path / ".file.bin.lock").stat().st_mode & 0o666 == 0o666
    (tmp_path / "file.bin").unlink()
    part_of(tmp_path).write_bytes(CONTENT[:1000])
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != part_of(tmp_path) and access(path, mode))
    fetch(wanted(mirrors[0]), tmp_path)
    assert mirrors[0].requests[-1] is None  # from the start, since the part may not be extended
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_two_processes_and_four_threads_at_once_download_once(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].delay = 0.5
    # An empty package instead of the real one spares the processes the seconds that `import torch` takes.
    path = str(Path(module.__file__).parent.parent)
    package = f"import sys, types; p = types.ModuleType('datamodules'); p.__path__ = [{path!r}]"
    imports = "sys.modules['datamodules'] = p; from pathlib import Path; "
    imports += "from datamodules.files.download import Download, fetch"
    call = f"{package}; {imports}; fetch({wanted(mirrors[0])!r}, Path('.'))"
    processes = [subprocess.Popen([sys.executable, "-c", call], cwd=tmp_path) for _ in range(2)]
    deadline = time.monotonic() + 60
    while not mirrors[0].requests and time.monotonic() < deadline:
        time.sleep(0.01)
    threads = [threading.Thread(target=fetch, args=(wanted(mirrors[0]), tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    assert mirrors[0].requests == [None]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "urls", "checksum"),
    [
        ("../file", ("http://host/",), SHA256),
        ("file", (), SHA256),
        ("file", ("file:///etc/passwd",), SHA256),
        ("file", ("http://host/",), "sha256:1234"),
        ("file", ("http://host/",), SHA256.replace("sha256", "md5")),
    ],
)
def test_a_download_that_cannot_work_is_refused(name: str, urls: tuple[str, ...], checksum: str) -> None:
    with pytest.raises(ValueError, match=r"^(name|urls|checksum) is .*; it must (be|have) "):
        Download(name, urls, checksum)


def test_the_official_files_are_those_of_the_readers() -> None:
    for files in (MNIST, FASHION_MNIST):
        kinds = [f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
        assert [file.name for file in files] == kinds
        assert all(len(file.urls) == 2 and url.endswith("/" + file.name) for file in files for url in file.urls)
    assert CIFAR10.size == 170_498_071


# ------------------------------------------------------------------------------------------------------------ archives

FILES = {f"file_{i}": random.Random(i).randbytes(5_000) for i in range(3)}


def entry(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, content


def sparse(name: str, size: int) -> tuple[tarfile.TarInfo, bytes]:
    """A sparse file of `size` zeros stored as one byte."""
    info, content = entry(name, b"x")
    info.pax_headers = {"GNU.sparse.size": str(size), "GNU.sparse.map": "0,1"}
    return info, content


def write_tar(path: Path, *more: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A good archive of a folder `top`, then more entries."""
    good = [entry("top", kind=tarfile.DIRTYPE), *(entry(f"top/{name}", content) for name, content in FILES.items())]
    with tarfile.open(path, "w:gz") as tar:
        for info, content in (*good, *more):
            tar.addfile(info, io.BytesIO(content))
    return path


def left_in(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {".top.lock", "a.tar.gz"}


@pytest.mark.parametrize("members", [None, tuple(FILES)])
def test_an_archive_is_unpacked_and_nothing_else_is_left(tmp_path: Path, members: tuple[str, ...] | None) -> None:
    folder = extract_tar(write_tar(tmp_path / "a.tar.gz"), tmp_path / "top", members)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert left_in(tmp_path) == {"top"}
    reference = tmp_path / "reference"
    reference.mkdir()
    assert folder.stat().st_mode == reference.stat().st_mode


def test_only_the_given_members_are_unpacked(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar.gz", entry("top/readme.html", b"hello"), entry("top/sub/file_0", b"deep"))
    folder = extract_tar(archive, tmp_path / "top", ["file_0", "file_2"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {n: FILES[n] for n in ("file_0", "file_2")}


def test_a_complete_folder_is_not_changed_and_an_incomplete_one_repaired(tmp_path: Path) -> None:
    folder = extract_tar(write_tar(tmp_path / "a.tar.gz"), tmp_path / "top", FILES)
    before = (folder / "file_0").stat().st_ino
    extract_tar(tmp_path / "a.tar.gz", folder, FILES)
    assert (folder / "file_0").stat().st_ino == before
    (folder / "file_1").unlink()
    (folder / "mine").write_bytes(b"kept")
    extract_tar(tmp_path / "a.tar.gz", folder, FILES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES | {"mine": b"kept"}
    assert left_in(tmp_path) == {"top"}


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".top.part").mkdir()
    (tmp_path / ".top.part" / "half").write_bytes(b"half")
    folder = extract_tar(write_tar(tmp_path / "a.tar.gz"), tmp_path / "top", FILES)
    assert {path.name for path in folder.iterdir()} == set(FILES)


@pytest.mark.parametrize(
    "evil",
    [
        entry("../evil", b"x"),
        entry("top/../../evil", b"x"),
        entry("/tmp/evil_absolute", b"x"),
        entry("other/file", b"x"),
        entry("top/evil", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        entry("top/evil", kind=tarfile.SYMTYPE, link="file_0"),
        entry("top/evil", kind=tarfile.LNKTYPE, link="top/file_0"),
        entry("top/evil", kind=tarfile.CHRTYPE),
        entry("top/evil", kind=tarfile.FIFOTYPE),
        sparse("top/evil", 10**9),
    ],
    ids=lambda value: f"{value[0].name}-{value[0].type!r}",
)
@pytest.mark.parametrize("members", [None, tuple(FILES)])
def test_malicious_archives_are_refused(
    tmp_path: Path, evil: tuple[tarfile.TarInfo, bytes], members: tuple[str, ...] | None
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(DataFileError, match=r"outside top|not a plain file"):
        extract_tar(write_tar(root / "a.tar.gz", evil), root / "top", members)
    assert left_in(root) == set() and list(tmp_path.iterdir()) == [root]
    assert not Path("/tmp/evil_absolute").exists()


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar.gz", entry("top/zeros", bytes(10**6)))
    with pytest.raises(DataFileError, match="unpacks to far more"):
        extract_tar(archive, tmp_path / "top", FILES, max_bytes=10**6)
    assert left_in(tmp_path) == set()


def test_an_archive_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"lacks file_7, file_8\); delete it and download it again\.$"):
        extract_tar(write_tar(tmp_path / "a.tar.gz"), tmp_path / "top", [*FILES, "file_8", "file_7"])
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize("members", [None, tuple(FILES)])
def test_an_archive_cut_anywhere_leaves_nothing(tmp_path: Path, members: tuple[str, ...] | None) -> None:
    archive = write_tar(tmp_path / "a.tar.gz")
    content = archive.read_bytes()
    dice = random.Random(0)
    for end in [
        0,
        1,
        5,
        20,
        *(dice.randrange(len(content)) for _ in range(40)),
        *(len(content) - n for n in range(1, 9)),
    ]:
        archive.write_bytes(content[:end])
        with pytest.raises(DataFileError, match="not a complete archive of top"):
            extract_tar(archive, tmp_path / "top", members)
        assert left_in(tmp_path) == set()


def test_a_damaged_archive_unpacks_correctly_or_not_at_all(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar.gz")
    content, plain = archive.read_bytes(), gzip.decompress(archive.read_bytes())
    dice = random.Random(0)
    refused = 0
    for attempt in range(150):
        # Every second time the damage lies under an intact gzip, so that it is the tar headers that are wrong.
        damaged = bytearray(content if attempt % 2 else plain)
        at = dice.choice([dice.randrange(len(damaged)), dice.randrange(min(2_000, len(damaged)))])
        damaged[at] = dice.randrange(256)
        archive.write_bytes(damaged if attempt % 2 else gzip.compress(damaged, 1))
        try:
            folder = extract_tar(archive, tmp_path / "top", FILES)
            assert {path.name: len(path.read_bytes()) for path in folder.iterdir()} == dict.fromkeys(FILES, 5_000)
            shutil.rmtree(folder)
        except DataFileError:
            refused += 1
        assert left_in(tmp_path) == set()
    assert refused > 50


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"a\.tar\.gz does not exist; download it first"):
        extract_tar(tmp_path / "a.tar.gz", tmp_path / "top", FILES)


def test_a_disk_that_fills_while_unpacking_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DownloadError, match="disk or quota is full"):
        extract_tar(write_tar(tmp_path / "a.tar.gz"), tmp_path / "top", FILES)
    assert left_in(tmp_path) == set()


def test_the_official_members_are_the_batches_and_their_names() -> None:
    assert set(CIFAR10_MEMBERS) == {"batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))}
