"""The best setting trained once on all training images, and tested once on the test images.

Nothing is held out then, so no validation figure says which epoch was best: it is the last checkpoint that is tested.
Both commands run as a sweep's trials do, in processes of their own that are followed and never left behind.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines.cross_validation.plan import Plan
from pipelines.cross_validation.results import Result
from pipelines.run.run_folder import RunFolder
from pipelines.run.status import read_status
from pipelines.search.local_machine import LocalMachine, shares
from pipelines.search.search import Search
from pipelines.search.trial_command import trial_command
from pipelines.search.trial_process import Job, Outcome
from pipelines.tracking.curves import read_curves

_ALL_IMAGES = {"data.val_fraction": 0, "data.num_folds": None, "data.fold": None}


@dataclass(frozen=True)
class Tested:
    """The final run.

    Attributes:
        run: its folder; None if it never came to one.
        metric: such as "test/accuracy".
        figure: on the test images; None if something failed.
        reason: what failed.
    """

    run: Path | None
    metric: str
    figure: float | None
    reason: str | None


def train_and_test(plan: Plan, search: Search, best: Result) -> Tested:
    """Does what of it an earlier call has not done yet.

    Raises:
        KeyboardInterrupt: Ctrl-C; by then no process is left.
    """
    run_id = f"{search.folder.name}-final"
    metric = f"test/{plan.metric.removeprefix('val/')}"
    run = _find(search, run_id)
    if run is None or read_status(run.path).state != "finished":
        file = search.folder / "trials" / "final.json"
        command = trial_command(search.sweep.command, best.values | _ALL_IMAGES, file)
        if run is not None and run.last.is_file():
            command += ["--ckpt_path", str(run.path.relative_to(search.root))]
        elif run is not None:
            shutil.rmtree(run.path)  # it never came to a checkpoint
        outcome = _run(search, run_id, command, "train/loss")
        run = _find(search, run_id)
        if outcome.exit_code != 0 or run is None:
            return Tested(run.path if run else None, metric, None, f"training failed: {outcome.reason}")
    figure = _figure(run, metric)
    if figure is None:
        last = str(run.last.relative_to(search.root))
        command = ["/usr/bin/env", "python", "-m", "pipelines.train", "test", "--ckpt_path", last]
        outcome = _run(search, run_id, command, metric)
        figure = _figure(run, metric)
        if outcome.exit_code != 0 or figure is None:
            return Tested(run.path, metric, None, f"the test failed: {outcome.reason}")
    return Tested(run.path, metric, figure, None)


def _run(search: Search, run_id: str, command: list[str], metric: str) -> Outcome:
    """Carries out one command; the launcher's lock says to others that this cross-validation is at work."""
    (places, *_) = shares(1, 1)
    lock = search.join()
    assert search.launcher is not None
    machine = LocalMachine([places], search.launcher, lock)
    environment = {
        "WANDB_RUN_ID": run_id,
        "WANDB_RUN_GROUP": search.folder.name,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    log = search.folder / "trials" / "final.log"
    try:
        machine.start(Job(0, command, search.root, environment, log, metric, None))
        while True:
            for _, outcome in machine.poll():
                if outcome is not None:
                    return outcome
    finally:
        machine.close()
        search.leave()


def _find(search: Search, run_id: str) -> RunFolder | None:
    folder = next(search.folder.parents[1].glob(f"*/{run_id}/"), None)
    return None if folder is None else RunFolder(folder)


def _figure(run: RunFolder, metric: str) -> float | None:
    file = run.path / "metrics.csv"
    curves = read_curves(file) if file.is_file() else {}
    return curves[metric].last.value if metric in curves else None
