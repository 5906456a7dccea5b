"""Runs a sweep: starts its trials, reads their metrics, stops the poor ones early and records how each ended."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from pipelines.console.formatting import duration, figure, setting
from pipelines.run.run_folder import as_typed
from pipelines.run.status import give_reason
from pipelines.search.packing import Packing
from pipelines.search.search import EndState, Search, Trial
from pipelines.trials.local_machine import LocalMachine, trial_environments
from pipelines.trials.trial_command import train_arguments, trial_command
from pipelines.trials.trial_process import Job, Outcome, TrialProcess
from pipelines.trials.warm_server import WarmServer


def run_search(
    search: Search,
    parallel: int | None = None,
    gpus_per_trial: int = 1,
    clock: Callable[[], float] = time.monotonic,
    server: WarmServer | None = None,
) -> None:
    """Runs trials of a sweep on this machine until none is left to start; other launchers may share the work.

    Args:
        search: The sweep.
        parallel: Number of trials at a time, ≥ 1; None for one per `gpus_per_trial` GPUs, or one per core without GPUs.
        gpus_per_trial: Number of GPUs of each trial on a machine with GPUs, ≥ 1.
        clock: Time in seconds, by which the time limit of trials is measured.
        server: Process that trials are forked from, if it was started already.

    Raises:
        ValueError: If the machine has fewer GPUs than a trial needs, or no run logs the sweep's metric.
        KeyboardInterrupt: After Ctrl-C, when all trials of this launcher have ended; other launchers may adopt them.
    """
    environments = trial_environments(parallel, gpus_per_trial)
    lock = search.join()
    machine = LocalMachine(environments, lock.launcher, lock.descriptor, clock, server)
    try:
        _run_trials(search, machine, Packing(search, len(environments)))
    finally:
        machine.close()
        search.leave()


def _run_trials(search: Search, machine: LocalMachine, packing: Packing) -> None:
    running: dict[int, Trial] = {}
    stopped: set[int] = set()  # numbers of poor trials that were asked to end
    told: set[str] = set()
    while True:
        while machine.has_room and (trials := packing.next()):
            machine.start(*(_job(search, trial) for trial in trials))
            running.update({trial.number: trial for trial in trials})
        if not running:
            return
        for process, outcome in machine.poll():
            number = process.job.number
            if outcome is not None and outcome.state == "lost":
                told |= _tell({f"trial {number:>3}  started again by itself: {outcome.reason}"} - told)
                packing.again(running.pop(number))  # goes on from its last checkpoint
                continue
            is_poor = search.report(number, process.metric)
            if is_poor and outcome is None and number not in stopped:
                stopped.add(number)
                process.stop()
            if outcome is not None:
                del running[number]
                _finish(search, process, outcome)
        told |= _tell(set(machine.notes()) - told)


def _tell(sentences: set[str]) -> set[str]:
    for sentence in sentences:
        print(sentence, flush=True)
    return sentences


def _job(search: Search, trial: Trial) -> Job:
    """The process to start for a trial; an interrupted one continues from its last checkpoint if it has one."""
    values = search.sweep.nested(trial.values)
    file = search.folder / "trials" / f"{trial.number:04d}.json"
    earlier = search.run_folder(trial)
    if earlier is not None and file.is_file() and file.read_text() not in (json.dumps(values), ""):
        raise UserError(
            f"{as_typed(earlier)} is a run with other values than trial {trial.number} of the journal, which must lack "
            "its end; restore journal.log from a copy, or move the run elsewhere."
        )
    file.write_text(json.dumps(values))  # also for a command that takes the values otherwise: what the run was
    command = trial_command(search.sweep.command, values, file)
    if earlier is not None:
        if (earlier / "checkpoints" / "last.ckpt").is_file() and train_arguments(command) is not None:
            command += ["--ckpt_path", str(earlier.relative_to(search.root))]
        else:
            shutil.rmtree(earlier)  # no checkpoint to continue from
    environment = {
        **{name: value for name, value in search.sweep.tracking.items() if name not in os.environ},
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
    states: dict[str, EndState] = {"stopped": "pruned", "finished": "finished"}
    state = states.get(outcome.state, "failed")
    number = process.job.number
    search.finish(number, state, outcome.reason, outcome.seconds)
    trials = search.trials()
    trial = next(trial for trial in trials if trial.number == number)
    run = search.run_folder(trial)
    if run is not None and outcome.state == "stopped":
        give_reason(run, "the sweep: other trials did better")
    elif run is not None and outcome.reason is not None:
        give_reason(run, outcome.reason)
    print(trial_line(search, trial), flush=True)
    if outcome.exit_code == 0 and not process.metric and process.logged and not any(trial.metric for trial in trials):
        raise UserError(
            f"No run logs {search.sweep.metric!r}, the sweep's metric; the first one logged "
            f"{', '.join(process.logged)}. Set metric.name to one of them and start a new sweep."
        )


def trial_line(search: Search, trial: Trial) -> str:
    """Formats a trial as one line: number, best metric, parameters, duration, and how it ended if not finished."""
    values = "  ".join(f"{name}={setting(trial.values[name])}" for name in search.sweep.searched)
    state = "" if trial.state == "finished" else f"  {trial.state}" + (f": {trial.reason}" if trial.reason else "")
    result = f"{search.sweep.metric} {figure(trial.best)}"
    return f"trial {trial.number:>3}  {result}  {values}  {duration(trial.seconds)}{state}"
