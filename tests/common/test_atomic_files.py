"""A file appears complete or not at all, whatever kills its writer and however many write it at once."""

import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.atomic_files import atomic_write, remove_abandoned

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from common.atomic_files import atomic_write, remove_abandoned
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sync", [False, True])
def test_the_file_and_its_folder_appear_after_the_block(tmp_path: Path, sync: bool) -> None:
    target = tmp_path / "new" / "file.txt"
    with atomic_write(target, sync) as temporary:
        assert temporary.parent == target.parent
        temporary.write_text("content")
        assert not target.exists()
    assert target.read_text() == "content"
    assert names(target.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_sync_flushes_the_written_content_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, synced = tmp_path / "file.txt", []

    def fsync(descriptor: int) -> None:
        assert not target.exists()
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(target) as temporary:
        temporary.write_text("content")
    assert synced == []
    target.unlink()
    with atomic_write(target, sync=True) as temporary:
        temporary.write_text("content")
    assert synced == [target.stat().st_ino]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_a_newly_opened_file(tmp_path: Path, umask: int) -> None:
    with_other_permissions = tmp_path / ".file.0.tmp"  # left by a process with another umask
    with_other_permissions.touch(mode=0o600)
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as temporary:
            temporary.write_text("content")
        (tmp_path / "plain").write_text("content")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "plain")}
    assert modes == {0o666 & ~umask}


def test_killed_writers_leave_one_file_that_the_next_writer_removes(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(target)], check=False)
        assert ended.returncode == -signal.SIGKILL
        assert target.read_text() == "old"
        assert names(tmp_path) == [".file.txt.0.tmp", "file.txt"]
    with atomic_write(target) as temporary:
        assert temporary.read_text() == ""
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


def test_writers_at_once_have_temporary_files_of_their_own_and_the_last_one_wins(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    with atomic_write(target) as outer:
        outer.write_text("outer")
        with atomic_write(target) as inner:
            assert inner != outer
            inner.write_text("inner")
        assert target.read_text() == "inner"
    assert target.read_text() == "outer"
    assert names(tmp_path) == ["file.txt"]


def _write_many(target: Path, content: str, barrier: Any) -> None:
    barrier.wait()
    for _ in range(200):
        with atomic_write(target) as temporary:
            temporary.write_text(content)
        assert set(target.read_text()) in ({"a"}, {"b"}, {"c"})
        assert len(target.read_text()) == 5000


@pytest.mark.slow
def test_processes_at_once_never_mix_their_content(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    barrier = context.Barrier(3)
    target = tmp_path / "file.txt"
    processes = [context.Process(target=_write_many, args=(target, letter * 5000, barrier)) for letter in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert names(tmp_path) == ["file.txt"]


def test_a_forked_process_that_outlives_the_write_holds_no_lock(tmp_path: Path) -> None:
    """Worker processes of a data loader inherit the open file when they are forked within the block."""
    target, (out, into) = tmp_path / "file.txt", os.pipe()
    with atomic_write(target):
        child = os.fork()
        if child == 0:
            os.close(into)
            os.read(out, 1)  # until the parent closes its end
            os._exit(0)
    os.link(target, tmp_path / ".file.txt.0.tmp")  # the inherited file under the name of a temporary one
    with atomic_write(target) as temporary:
        assert temporary.name == ".file.txt.0.tmp"
    os.close(into)
    os.close(out)
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    target = tmp_path / "file.txt"
    (tmp_path / ".file.txt.0.tmp").write_text("may be in use")
    with atomic_write(target) as temporary:
        temporary.write_text("content")
    assert target.read_text() == "content"
    assert names(tmp_path) == [".file.txt.0.tmp", "file.txt"]


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "taken" / "file.txt"):
        pytest.fail("there is nothing to write to")


def test_it_imports_the_standard_library_alone() -> None:
    code = "import sys; import common.atomic_files; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"filelock", "torch", "numpy"} & set(loaded)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_disk_is_reported_with_the_name_of_the_target(tmp_path: Path, number: int) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))  # as Python reports a failed write to an open file

    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        fail()
    assert (raised.value.errno, raised.value.filename) == (number, str(target))
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, atomic_write(tmp_path / "file.txt"):
        (tmp_path / "missing").read_text()
    assert raised.value.filename == str(tmp_path / "missing")


def test_a_folder_in_place_of_the_file_is_reported_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as raised, atomic_write(tmp_path / "taken") as temporary:
        temporary.write_text("content")
    assert raised.value.filename == str(tmp_path / "taken")
    assert names(tmp_path) == ["taken"]


def test_what_killed_writers_left_is_removed_from_a_folder_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path / "best.ckpt")], check=False)
    (tmp_path / ".last.ckpt.31337.tmp").write_text("half")  # as version 0.1 named them
    for kept in (".hidden", ".notes.tmp", "plain.0.tmp"):
        (tmp_path / kept).write_text("mine")
    with atomic_write(tmp_path / "written.txt") as temporary:
        remove_abandoned(tmp_path)
        assert names(tmp_path) == [".hidden", ".notes.tmp", temporary.name, "plain.0.tmp"]
        temporary.write_text("content")
    assert (tmp_path / "written.txt").read_text() == "content"
