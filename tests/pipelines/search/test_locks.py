"""Locks of a sweep's launchers: the file of a living launcher stays, the next launcher removes those of killed ones."""

import subprocess
import sys
from pathlib import Path

from pipelines.search.locks import LauncherLock, is_alive
from tests.command_line import PROJECT

_KILLED = """
import os, sys
from pathlib import Path
from pipelines.search.locks import LauncherLock
lock = LauncherLock(Path(sys.argv[1]))
print(lock.launcher, flush=True)
os.kill(os.getpid(), 9)
"""


def test_files_of_killed_launchers_are_removed_by_the_next_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    living = LauncherLock(tmp_path)
    command = [sys.executable, "-c", _KILLED, str(tmp_path)]
    killed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert killed.returncode == -9
    name = killed.stdout.strip()
    assert {path.name for path in tmp_path.iterdir()} == {living.launcher, name}
    assert is_alive(tmp_path, living.launcher) and not is_alive(tmp_path, name)
    next_one = LauncherLock(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {living.launcher, next_one.launcher}
    assert is_alive(tmp_path, living.launcher) and is_alive(tmp_path, next_one.launcher)
    assert not is_alive(tmp_path, name)
    for lock in (living, next_one):
        lock.release()
    assert list(tmp_path.iterdir()) == []
