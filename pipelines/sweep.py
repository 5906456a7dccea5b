"""Searches hyperparameters by a W&B sweep file: led by W&B, or without it, on one machine or several.

python -m pipelines.sweep run sweeps/softmax.yaml --engine local --parallel 2
python -m pipelines.sweep run sweeps/softmax.yaml --engine wandb
python -m pipelines.sweep run sweeps/softmax.yaml --engine ray --address HOST:6379 --gpus-per-trial 1
python -m pipelines.sweep resume logs/sweeps/SWEEP      # goes on where it stopped, or helps one that runs
python -m pipelines.sweep show logs/sweeps/SWEEP        # the trials, best first, live while it runs
python -m pipelines.sweep best logs/sweeps/SWEEP        # the best trial, ready to paste
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from pipelines.console.errors import user_errors
from pipelines.console.option_parser import OptionParser
from pipelines.run.run_folder import as_typed
from pipelines.tracking.wandb_login import wandb_mode

if TYPE_CHECKING:
    from pipelines.search.search import Search


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    top = OptionParser(
        prog="python -m pipelines.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="start a sweep")
    run.add_argument("file", type=Path, help="a sweep file, such as sweeps/softmax.yaml")
    run.add_argument(
        "--engine",
        choices=("auto", "local", "ray", "wandb"),
        default="auto",
        help="local: Optuna chooses the points, for this machine; ray: the same for a Ray cluster; wandb: W&B chooses "
        "them; auto: wandb if you are logged in, else local (default)",
    )
    run.add_argument("--sampler", choices=("tpe", "gp"), help="not with wandb: for the method bayes (default: tpe)")
    run.add_argument("--seed", type=int, help="not with wandb: of the search (default: 0)")
    run.add_argument(
        "--run-cap",
        type=_positive,
        help="how many trials at most (default: the file's run_cap); with W&B, how many on this machine",
    )
    run.add_argument(
        "--time-limit", type=_seconds, help="not with wandb: seconds after which a trial fails (default: none)"
    )
    resume = commands.add_parser("resume", help="go on with a sweep, or help one that runs")
    resume.add_argument("--engine", choices=("local", "ray"), default="local", help="(default: local)")
    for command in (run, resume):
        command.add_argument(
            "--parallel", type=_positive, help="trials at a time (default: as there are GPUs, or cores)"
        )
        command.add_argument("--gpus-per-trial", type=_positive, help="(default: 1 where there are any)")
        command.add_argument("--address", help="ray: HOST:PORT of the cluster's head (default: this machine alone)")
        command.add_argument("--cpus-per-trial", type=_positive, help="ray: cores for each trial (default: 1)")
    show = commands.add_parser("show", help="the trials, best first, live while the sweep runs")
    best = commands.add_parser("best", help="the best trial's settings and command")
    for command in (resume, show, best):
        command.add_argument("folder", type=Path, help="the sweep's folder, logs/sweeps/SWEEP")
    return top


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return seconds


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line; ends with status 2 and one sentence if it can't be carried out."""
    with user_errors():
        given = parser().parse_args(sys.argv[1:] if arguments is None else arguments)
        for option in ("address", "cpus_per_trial"):
            if getattr(given, option, None) is not None and given.engine != "ray":
                raise UserError(f"--{option.replace('_', '-')} is for a Ray cluster; add --engine ray.")
        if getattr(given, "engine", None) == "ray":
            from pipelines.search.ray_cluster import check_ray

            check_ray(given.address)
        if given.command == "run":
            _run(given)
        else:
            _existing(given)


def _run(given: argparse.Namespace) -> None:
    from pipelines.search.parameter_check import check_parameters
    from pipelines.search.search import Search
    from pipelines.search.sweep_file import read_sweep

    sweep = read_sweep(given.file)
    led_by_wandb = given.engine == "wandb" or (given.engine == "auto" and wandb_mode() == "online")
    for option in ("sampler", "seed", "time_limit"):
        if led_by_wandb and getattr(given, option) is not None:
            raise UserError(f"W&B leads this sweep and takes no --{option.replace('_', '-')}; add --engine local.")
    print(f"checking {given.file}", flush=True)  # takes some seconds
    check_parameters(sweep)
    if led_by_wandb:
        from pipelines.search.wandb_engine import run_on_wandb  # imports Lightning

        run_on_wandb(given.file, given.parallel, given.gpus_per_trial or 1, given.run_cap)
        return
    search = Search.create(
        sweep, Path("logs"), given.sampler or "tpe", given.seed or 0, given.run_cap, given.time_limit
    )
    if search.run_cap is None and sweep.size == float("inf"):
        print("This sweep has no run_cap: it goes on until you stop it with Ctrl-C.", file=sys.stderr)
    _work_on(search, given)


def _existing(given: argparse.Namespace) -> None:
    from pipelines.search.search import Search
    from pipelines.search.trial_table import best, show

    search = Search(given.folder)
    if given.command == "resume":
        _work_on(search, given)
    elif given.command == "show":
        show(search)
    else:
        print(best(search))


def _work_on(search: "Search", given: argparse.Namespace) -> None:
    from pipelines.search.launcher import line, run_search

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it raises KeyboardInterrupt, as Ctrl-C does
    folder = as_typed(search.folder)
    print(f"{search.sweep.method} search of {search.sweep.name}; {folder}", flush=True)
    try:
        if given.engine == "ray":
            from pipelines.search.ray_cluster import run_on_ray

            run_on_ray(search, given.address, given.parallel, given.gpus_per_trial, given.cpus_per_trial or 1)
        else:
            run_search(search, given.parallel, given.gpus_per_trial or 1)
    except (KeyboardInterrupt, ConnectionError):
        engine = " --engine ray" if given.engine == "ray" else ""
        address = f" --address {given.address}" if given.address else ""
        print(f"go on with         python -m pipelines.sweep resume {folder}{engine}{address}", file=sys.stderr)
        raise
    trials = [trial for trial in search.trials() if trial.best is not None and trial.state != "failed"]
    if trials:
        print(f"best: {line(search, trials[0])}")
    print(f"all trials         python -m pipelines.sweep show {folder}")
    print(f"the best to paste  python -m pipelines.sweep best {folder}")
    print(f"look at them       python -m pipelines.compare {folder}")


if __name__ == "__main__":
    main()
