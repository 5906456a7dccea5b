"""Carries out a sweep: starts its trials, follows them, stops the poor ones, and notes what became of each."""

import os
import shutil
import sys
from pathlib import Path
from typing import Literal

from common.errors import UserError
from pipelines.console.formatting import duration, figure, setting
from pipelines.run.status import give_reason
from pipelines.search.local_machine import LocalMachine, shares
from pipelines.search.search import Search, Trial
from pipelines.search.trial_command import train_arguments, trial_command
from pipelines.search.trial_process import Job, Outcome, TrialProcess


def run_search(search: Search, parallel: int | None = None, gpus_per_trial: int = 1) -> None:
    """Works on a sweep until nothing is left to start, together with whoever else works on it.

    Args:
        search: the sweep.
        parallel: how many trials at a time; None for one a GPU group, or one a core.
        gpus_per_trial: on a machine with GPUs.

    Raises:
        ValueError: fewer GPUs than a trial asks for, or a metric that no run logs.
        KeyboardInterrupt: Ctrl-C; by then no trial is left, and those that ran are up for adoption.
    """
    places = shares(parallel, gpus_per_trial)
    lock = search.join()
    assert search.launcher is not None
    machine = LocalMachine(places, search.launcher, lock)
    try:
        _work(search, machine)
    finally:
        machine.close()
        search.leave()


def _work(search: Search, machine: LocalMachine) -> None:
    running = 0
    more = True
    stopped: set[int] = set()  # poor trials that are asked to end
    while True:
        while more and machine.has_room:
            trial = search.next()
            more = trial is not None
            if trial is not None:
                machine.start(_job(search, trial))
                running += 1
        if not running:
            return
        for process, outcome in machine.poll():
            number = process.job.number
            poor = search.report(number, process.metric)
            if poor and outcome is None and number not in stopped:
                stopped.add(number)
                process.stop()
            if outcome is not None:
                running -= 1
                _finish(search, process, outcome)


def _job(search: Search, trial: Trial) -> Job:
    """What to start for a trial; one that was interrupted goes on from its last checkpoint, if it got that far."""
    command = trial_command(
        search.sweep.command,
        search.sweep.nested(trial.values),
        search.folder / "trials" / f"{trial.number:04d}.json",
    )
    earlier = search.run_folder(trial)
    if earlier is not None:
        if (earlier / "checkpoints" / "last.ckpt").is_file() and train_arguments(command) is not None:
            command += ["--ckpt_path", str(earlier.relative_to(search.root))]
        else:
            shutil.rmtree(earlier)  # it never came to a checkpoint
    environment = {
        "WANDB_RUN_ID": trial.run_id,
        "WANDB_RUN_GROUP": search.folder.name,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    return Job(
        number=trial.number,
        command=command,
        root=search.root,
        environment=environment,
        log=search.folder / "trials" / f"{trial.number:04d}.log",
        metric=search.sweep.metric,
        time_limit=search.time_limit,
    )


def _finish(search: Search, process: TrialProcess, outcome: Outcome) -> None:
    state: Literal["finished", "pruned", "failed"] = "pruned" if outcome.state == "stopped" else outcome.state
    number = process.job.number
    search.finish(number, state, outcome.reason, outcome.seconds)
    trials = search.trials()
    trial = next(trial for trial in trials if trial.number == number)
    run = search.run_folder(trial)
    if run is not None and outcome.state == "stopped":
        give_reason(run, "the sweep: other trials did better")
    elif run is not None and outcome.reason is not None:
        give_reason(run, outcome.reason)
    print(line(search, trial), flush=True)
    if outcome.exit_code == 0 and not process.metric and process.logged and not any(trial.metric for trial in trials):
        raise UserError(
            f"No run logs {search.sweep.metric!r}, the sweep's metric; what the first one logged is "
            f"{', '.join(process.logged)}. Give metric.name one of them, and start the sweep anew."
        )


def line(search: Search, trial: Trial) -> str:
    """A trial in one line: what was tried and what came out."""
    values = "  ".join(f"{name}={setting(trial.values[name])}" for name in search.sweep.searched)
    told = "" if trial.state == "finished" else f"  {trial.state}" + (f": {trial.reason}" if trial.reason else "")
    result = f"{search.sweep.metric} {figure(trial.best)}"
    return f"trial {trial.number:>3}  {result}  {values}  {duration(trial.seconds)}{told}"
