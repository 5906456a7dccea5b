"""Kills the trials of a launcher that has ended: `python -m pipelines.trials.watchdog MARK [MARK …]`.

The watchdog waits until its standard input is closed, which happens when the launcher ends, however it ends. Then it
kills every process with the launcher's mark in its environment: trials and their descendants, also those in process
groups of their own. It detaches itself from the launcher, because Ray kills the children of a worker that ends.
"""

import os
import signal
import subprocess
import sys
import time

import psutil

from pipelines.console.signals import stop_signals

MARK = "LIGHTNING_231N_LAUNCHER"
_PAUSE_SECONDS = 0.1


class Watchdog:
    """A process that kills all processes of a launcher when the launcher ends, or calls `close`.

    Args:
        marks: Values of the environment variable `MARK` in the processes to kill.
        keep_open: File descriptors to hold open until then, such as that of a lock.
    """

    def __init__(self, marks: list[str], keep_open: tuple[int, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.trials.watchdog", *marks],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=keep_open,
            start_new_session=True,
        )

    def close(self) -> None:
        """Kills the processes now, and waits until they have ended."""
        self._process.communicate()


def marked(mark: str) -> list[psutil.Process]:
    """Returns this user's other processes whose mark is `mark`, or begins with `mark` and a slash."""
    processes = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(MARK, "")
            if process.pid != os.getpid() and (value == mark or value.startswith(f"{mark}/")):
                processes.append(process)
        except psutil.Error:  # ended, or another user's
            continue
    return processes


def kill_marked(mark: str) -> None:
    """Kills marked processes until two searches in a row find none: a process may be about to start another."""
    empty_searches = 0
    while empty_searches < 2:
        processes = marked(mark)
        empty_searches = 0 if processes else empty_searches + 1
        for process in processes:
            try:
                process.kill()
            except psutil.Error:
                continue
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    sys.stdin.buffer.read()
    for mark in sys.argv[1:]:
        kill_marked(mark)
