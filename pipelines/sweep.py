"""Searches hyperparameters as a W&B sweep file describes: with W&B's service or without it, on one or more machines.

python -m pipelines.sweep check sweeps/softmax.yaml     # find mistakes without starting anything
python -m pipelines.sweep run sweeps/softmax.yaml --engine local --parallel 2
python -m pipelines.sweep run sweeps/softmax.yaml --engine wandb
python -m pipelines.sweep run sweeps/softmax.yaml --engine ray --address HOST:6379 --gpus-per-trial 1
python -m pipelines.sweep resume logs/sweeps/SWEEP      # continue where it stopped, or share the work
python -m pipelines.sweep show logs/sweeps/SWEEP        # the trials, best first, updated while it runs
python -m pipelines.sweep best logs/sweeps/SWEEP        # the best trial's settings and command
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.commands import command
from common.errors import UserError
from pipelines.console.errors import user_errors
from pipelines.console.formatting import count
from pipelines.console.option_parser import OptionParser
from pipelines.console.resources import allow_many_files
from pipelines.console.signals import interrupt_on_signals
from pipelines.run.run_folder import as_typed
from pipelines.search.pack_option import PACK_HELP, pack_option
from pipelines.tracking.wandb_mode import wandb_mode

if TYPE_CHECKING:
    from pipelines.search.search import Search
    from pipelines.trials.warm_server import WarmServer


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    top = OptionParser(
        prog="python -m pipelines.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="find the mistakes in a sweep file without starting a sweep")
    run = commands.add_parser("run", help="check a sweep file and start a sweep")
    for each in (check, run):
        each.add_argument("file", type=Path, help="a sweep file, such as sweeps/softmax.yaml")
    run.add_argument(
        "--engine",
        choices=("auto", "local", "ray", "wandb"),
        default="auto",
        help="local: Optuna chooses the points, trials run on this machine; ray: Optuna chooses them, trials run on a "
        "Ray cluster; wandb: W&B chooses them; auto: wandb if you are logged in, else local (default: auto)",
    )
    run.add_argument(
        "--sampler",
        choices=("tpe", "gp"),
        help="sampler of the method bayes: tree-structured Parzen estimator or Gaussian process; not with wandb "
        "(default: tpe)",
    )
    run.add_argument("--seed", type=int, metavar="N", help="seed of the search; not with wandb (default: 0)")
    run.add_argument(
        "--run-cap",
        type=_positive,
        metavar="N",
        help="largest number of trials; with wandb, of those on this machine (default: run_cap of the file)",
    )
    run.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="SECONDS",
        help="time after which a trial is stopped and fails; not with wandb (default: none)",
    )
    run.add_argument(
        "--pack",
        type=pack_option,
        metavar="auto|off|N",
        help=f"{PACK_HELP}; engine local only (default: auto, where it was measured to be faster)",
    )
    resume = commands.add_parser("resume", help="continue a sweep, or share the work of a running one")
    resume.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: trials run on this machine; ray: trials run on a Ray cluster (default: local)",
    )
    for each in (run, resume):
        each.add_argument(
            "--parallel",
            type=_positive,
            metavar="N",
            help="number of trials at a time (default: as many as there are GPUs, else cores)",
        )
        each.add_argument(
            "--gpus-per-trial",
            type=_positive,
            metavar="N",
            help="number of GPUs of each trial (default: 1 on a machine with GPUs)",
        )
        each.add_argument(
            "--address", metavar="HOST:PORT", help="ray: head of the cluster (default: a cluster of this machine alone)"
        )
        each.add_argument(
            "--cpus-per-trial", type=_positive, metavar="N", help="ray: number of cores of each trial (default: 1)"
        )
    resume.add_argument(
        "--run-cap", type=_positive, metavar="N", help="new largest number of trials, for more after the sweep's end"
    )
    show = commands.add_parser("show", help="print the trials, best first, updated while the sweep runs")
    best = commands.add_parser("best", help="print the best trial's settings and command")
    for each in (resume, show, best):
        each.add_argument("folder", type=Path, help="the sweep's folder, logs/sweeps/SWEEP")
    return top


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds greater than 0")
    return seconds


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line; a user's mistake ends with one sentence and exit status 2."""
    with user_errors():
        options = parser().parse_args(sys.argv[1:] if arguments is None else arguments)
        for name in ("address", "cpus_per_trial"):
            if getattr(options, name, None) is not None and options.engine != "ray":
                raise UserError(f"--{name.replace('_', '-')} is for a Ray cluster; add --engine ray.")
        if getattr(options, "engine", None) == "ray":
            from pipelines.search.ray_cluster import check_ray

            check_ray(options.address)
        if options.command == "check":
            _check(options.file)
        elif options.command == "run":
            _run(options)
        else:
            _open(options)


def _check(file: Path) -> None:
    from pipelines.search.parameter_check import check_parameters
    from pipelines.search.sweep_file import read_sweep

    sweep = read_sweep(file)
    check_parameters(sweep)
    points = "infinitely many" if sweep.size == float("inf") else f"{sweep.size:,}"
    cap = f", of which at most {sweep.run_cap:,} are tried" if sweep.run_cap else ""
    print(f"{file}: {sweep.method} search over {', '.join(sweep.searched) or 'no parameter'}; {points} points{cap}")


def _run(options: argparse.Namespace) -> None:
    from pipelines.search.packing import pack_size, starts_runs
    from pipelines.search.parameter_check import check_parameters
    from pipelines.search.search import Search
    from pipelines.search.sweep_file import read_sweep
    from pipelines.trials.local_machine import trial_environments, visible_gpus, warm_server

    sweep = read_sweep(options.file)
    with_wandb = options.engine == "wandb" or (options.engine == "auto" and wandb_mode() == "online")
    for name in ("sampler", "seed", "time_limit", "pack"):
        if with_wandb and getattr(options, name) is not None:
            raise UserError(f"W&B controls this sweep and takes no --{name.replace('_', '-')}; add --engine local.")
    print(f"checking {options.file}", flush=True)  # takes some seconds
    server = None
    if options.engine != "ray" and not with_wandb and starts_runs(sweep.command):
        environments = trial_environments(options.parallel, options.gpus_per_trial or 1)
        server = warm_server(Path.cwd(), environments[0])  # imports torch and Lightning while the check does
    model = check_parameters(sweep)
    if with_wandb:
        from pipelines.search.wandb_engine import run_on_wandb  # imports Lightning

        run_on_wandb(options.file, options.parallel, options.gpus_per_trial or 1, options.run_cap)
        return
    if sweep.for_wandb:
        print(
            f"Only W&B uses {', '.join(sweep.for_wandb)} of {options.file}; this search does without.", file=sys.stderr
        )
    if options.engine == "ray" and (options.pack or 1) > 1:
        raise UserError("--pack is for trials on this machine; leave it out, or use --engine local.")
    gpu = bool(visible_gpus())
    pack = 1 if options.engine == "ray" else pack_size(sweep, options.pack, model, gpu, options.time_limit)
    search = Search.create(
        sweep, Path("logs"), options.sampler or "tpe", options.seed or 0, options.run_cap, options.time_limit, pack
    )
    if pack > 1:
        print(f"packs              up to {count(pack, 'trial')} in a process, which differ in numbers alone")
    if search.run_cap is None and sweep.size == float("inf"):
        print("This sweep has no run_cap: it continues until you stop it with Ctrl-C.", file=sys.stderr)
    _launch(search, options, server)


def _open(options: argparse.Namespace) -> None:
    """Runs `resume`, `show` or `best`."""
    from pipelines.search.search import Search
    from pipelines.search.trial_table import best_trial, print_trials

    folder: Path = options.folder
    if not folder.exists() and len(folder.parts) == 1:  # a sweep's name alone
        folder = Path("logs") / "sweeps" / folder
    search = Search(folder if folder.exists() else options.folder)
    if options.command == "resume":
        search.extend(options.run_cap)
        _launch(search, options)
    elif options.command == "show":
        print_trials(search)
    else:
        print(best_trial(search))


def _launch(search: "Search", options: argparse.Namespace, server: "WarmServer | None" = None) -> None:
    """Runs trials until none is left to start, and prints the commands that read the sweep."""
    from pipelines.search.launcher import run_search, trial_line

    interrupt_on_signals()
    allow_many_files()
    folder = as_typed(search.folder)
    print(f"{search.sweep.method} search of {search.sweep.name}; {folder}", flush=True)
    try:
        if options.engine == "ray":
            from pipelines.search.ray_cluster import run_on_ray

            run_on_ray(search, options.address, options.parallel, options.gpus_per_trial, options.cpus_per_trial or 1)
        else:
            run_search(search, options.parallel, options.gpus_per_trial or 1, server=server)
    except (KeyboardInterrupt, ConnectionError):
        engine = " --engine ray" if options.engine == "ray" else ""
        address = f" --address {options.address}" if options.address else ""
        print(f"continue with      {command('sweep', 'resume', folder)}{engine}{address}", file=sys.stderr)
        raise
    trials = search.trials()
    best = next((trial for trial in trials if trial.best is not None and trial.state != "failed"), None)
    if best is not None:
        print(f"best: {trial_line(search, best)}")
    if search.reached_target:
        print(f"target reached     {search.sweep.metric} {search.sweep.target:g}")
    elif search.run_cap is None or len(trials) < search.run_cap:
        print(f"all points tried   {len(trials)}: no other can be drawn")
    elif len(trials) < search.sweep.size:
        print(f"more trials        {command('sweep', 'resume', folder, '--run-cap', 2 * len(trials))}")
    print(f"all trials         {command('sweep', 'show', folder)}")
    if best is None:
        print(f"error: all {count(len(trials), 'trial')} failed, the last: {trials[-1].reason}", file=sys.stderr)
        sys.exit(1)
    print(f"the best trial     {command('sweep', 'best', folder)}")
    print(f"compare them       {command('compare', folder)}")


if __name__ == "__main__":
    main()
