"""A sweep of real runs whose launcher is killed."""

import subprocess
from pathlib import Path

from pipelines.search.search import Search
from tests.helpers import wait_until


def wait_for_checkpoints(folder: Path, number: int) -> None:
    """Waits until so many runs in a working folder have a last checkpoint."""
    found = "logs/softmax/*/checkpoints/last.ckpt"
    wait_until(lambda: len(list(folder.glob(found))) >= number, f"{number} checkpoints")


def kill_launcher(launcher: "subprocess.Popen[bytes]", folder: Path) -> Path:
    """Kills the launcher of the only sweep in a working folder; returns the sweep's folder.

    The watchdog has then killed the trials, and let go of the launcher's lock.
    """
    launcher.kill()
    launcher.wait()
    (sweep,) = (folder / "logs" / "sweeps").iterdir()
    wait_until(lambda: Search(sweep).trials()[0].state == "interrupted", "the end of the trials")
    return sweep
