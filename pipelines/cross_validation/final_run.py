"""Trains the best setting once on all training images, and tests it once on the test images.

No images are held out, so there is no validation metric to choose an epoch by: the last checkpoint is tested. Both
commands run like a sweep's trials, each in a process of its own that never outlives this one.
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
from pipelines.search.search import Search
from pipelines.tracking.curves import read_curves
from pipelines.trials.local_machine import LocalMachine, trial_environments
from pipelines.trials.trial_command import trial_command
from pipelines.trials.trial_process import Job, Outcome

_ALL_IMAGES = {"data.val_fraction": 0, "data.num_folds": None, "data.fold": None}


@dataclass(frozen=True)
class FinalResult:
    """Result of the final run.

    Attributes:
        run: Folder of the run; None if there is none.
        metric: Test metric, such as "test/accuracy".
        score: Its value; None if training or the test failed.
        reason: What failed; None if nothing did.
    """

    run: Path | None
    metric: str
    score: float | None
    reason: str | None


def train_and_test(plan: Plan, search: Search, best: Result) -> FinalResult:
    """Trains and tests the best setting, except for what an earlier call has done.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when the process has ended.
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
            shutil.rmtree(run.path)  # no checkpoint to continue from
        outcome = _run(search, run_id, command, "train/loss")
        run = _find(search, run_id)
        if outcome.exit_code != 0 or run is None:
            return FinalResult(run.path if run else None, metric, None, f"training failed: {outcome.reason}")
    score = _score(run, metric)
    if score is None:
        last = str(run.last.relative_to(search.root))
        command = ["/usr/bin/env", "python", "-m", "pipelines.train", "test", "--ckpt_path", last]
        outcome = _run(search, run_id, command, metric)
        score = _score(run, metric)
        if outcome.exit_code != 0 or score is None:
            return FinalResult(run.path, metric, None, f"the test failed: {outcome.reason}")
    return FinalResult(run.path, metric, score, None)


def _run(search: Search, run_id: str, command: list[str], metric: str) -> Outcome:
    """Runs one command as a launcher of the sweep."""
    (resources, *_) = trial_environments(1, 1)
    lock = search.join()
    machine = LocalMachine([resources], lock.launcher, lock.descriptor)
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
    folder = search.find_run(run_id)
    return None if folder is None else RunFolder(folder)


def _score(run: RunFolder, metric: str) -> float | None:
    file = run.path / "metrics.csv"
    # A run without validation images that ended before the first log has an empty file.
    curves = read_curves(file) if file.is_file() and file.stat().st_size else {}
    return curves[metric].last.value if metric in curves else None
