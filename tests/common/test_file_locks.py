"""Locks on files exclude other holders, and end with the `with` block."""

import errno
from pathlib import Path

import pytest

from common.file_locks import is_locked, locked


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        return is_locked(file.fileno())


def test_a_lock_is_held_during_the_block_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        assert _is_locked(path)
    assert not _is_locked(path)


def test_without_locks_nothing_counts_as_locked_and_the_block_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(OSError, match="No locks available"), locked(tmp_path / "lock"):
        raise AssertionError
    assert not _is_locked(tmp_path / "lock")
