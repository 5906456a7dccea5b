"""Ends the trials of a launcher that was killed: `python -m pipelines.search.watchdog MARK`.

It waits for the end of its standard input, which comes when the launcher ends, however that happens, and then kills
every process that has the launcher's mark in its environment: trials, their children, and theirs. A process group does
not reach those that made a group of their own. It is nobody's child, since Ray kills the children of what it ends.
"""

import os
import signal
import subprocess
import sys
import time

import psutil

MARK = "LIGHTNING_231N_LAUNCHER"
_PAUSE_SECONDS = 0.1


class Watchdog:
    """Kills what a launcher has started, once the launcher has ended or closes it.

    Args:
        mark: the value of `MARK` in the environment of all that is to be killed.
        keep_open: descriptors that stay open until all is done, such as that of a lock.
    """

    def __init__(self, mark: str, keep_open: tuple[int, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.search.watchdog", mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=keep_open,
            start_new_session=True,
        )

    def close(self) -> None:
        """Has it do its work now, and waits until all is dead."""
        self._process.communicate()


def marked(mark: str) -> list[psutil.Process]:
    """All other processes of this user with the mark, or with one that goes on after it and a slash."""
    found = []
    for process in psutil.process_iter():
        try:
            its_own = process.environ().get(MARK, "")
            if process.pid != os.getpid() and (its_own == mark or its_own.startswith(f"{mark}/")):
                found.append(process)
        except psutil.Error:  # gone, or another user's
            continue
    return found


def kill_marked(mark: str) -> None:
    """Kills until nothing is left, twice in a row: a process may be about to start another."""
    quiet = 0
    while quiet < 2:
        processes = marked(mark)
        quiet = 0 if processes else quiet + 1
        for process in processes:
            try:
                process.kill()
            except psutil.Error:
                continue
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    sys.stdin.buffer.read()
    kill_marked(sys.argv[1])
