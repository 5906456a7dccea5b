"""Selects settings by k-fold cross-validation, trains the best on all training images and tests it once.

python -m pipelines.crossval --config softmax --folds 5 --grid optimizer.lr=1e-3,1e-2 --grid model.reg=0.01,0.1
python -m pipelines.crossval --config svm --folds 5 --data.preprocessing whiten --no-test
python -m pipelines.crossval --resume logs/sweeps/crossval-softmax-…        # continue where it stopped

Each fold of each setting is a run of `pipelines.train fit` with --data.num_folds and --data.fold, in a process of its
own. A setting's score is the mean over its folds of the monitored metric, the configuration's checkpoint.monitor, after
the last epoch. The test images are not used for the selection.

Source: https://cs231n.github.io/classification/#val
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.commands import command
from common.errors import UserError
from pipelines.console.formatting import count, figure
from pipelines.console.option_parser import OptionParser
from pipelines.console.resources import allow_many_files
from pipelines.console.run_command import run_command
from pipelines.console.signals import interrupt_on_signals
from pipelines.run.run_folder import as_typed
from pipelines.run.topics import topics
from pipelines.search.pack_option import PACK_HELP, pack_option
from pipelines.train import name_first

if TYPE_CHECKING:
    from pipelines.cross_validation.plan import Plan
    from pipelines.search.search import Search


def usage() -> str:
    """Returns the text of --help."""
    options = {
        "--folds K": "number of folds of the training images (default: 5)",
        "--grid NAME=A,B,…": "values to try of a setting; repeat the option for all combinations of several",
        "--parallel N": "number of runs at a time (default: one per GPU, else one per core)",
        "--pack auto|off|N": f"{PACK_HELP} (default: auto)",
        "--no-test": "only select: neither train on all training images nor test",
        "--KEY VALUE": "settings of all runs, as for pipelines.train fit",
        "--resume FOLDER": "continue one that was stopped",
    }
    lines = ["usage: python -m pipelines.crossval --config TOPIC|FILE [--folds K] [--grid NAME=VALUE,VALUE ...]"]
    lines += ["         [--parallel N] [--pack auto|off|N] [--no-test] [--KEY VALUE ...]"]
    lines += ["       python -m pipelines.crossval --resume FOLDER [--parallel N] [--no-test]"]
    lines += ["", *(f"  {name:<18} {text}" for name, text in options.items())]
    width = max(map(len, topics()))
    lines += ["", "topics:", *(f"  {name:<{width}}  {text}" for name, text in topics().items())]
    return "\n".join([*lines, "", "What each setting means:  python -m pipelines.train fit --help"])


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Separates the options of this command from the arguments of `fit`, --config first.

    Raises:
        ValueError: If an option has no or no valid value, or options exclude each other.
    """
    parser = OptionParser("python -m pipelines.crossval", add_help=False)
    parser.add_argument("--config", "-c", action="append", default=[])
    parser.add_argument("--folds", type=int)
    parser.add_argument("--grid", action="append", default=[])
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--pack", type=pack_option)
    parser.add_argument("--no-test", action="store_true")
    parser.add_argument("--resume", type=Path)
    options, rest = parser.parse_known_args(name_first(arguments))
    if options.parallel is not None and options.parallel < 1:
        raise UserError(f"--parallel is {options.parallel}; it must be at least 1.")
    planned = options.config or options.grid or options.folds is not None or options.pack is not None or rest
    if options.resume is not None and planned:
        raise UserError(
            "--resume continues with the same settings, folds and grid; give only --parallel or --no-test with it."
        )
    if options.resume is None and not options.config:
        raise UserError(f"There is no --config; give a topic ({', '.join(topics())}) or a YAML file.")
    return options, [word for config in options.config for word in ("--config", config)] + rest


def crossval(arguments: list[str]) -> bool:
    """Runs a command line.

    Returns:
        Whether no run failed.

    Raises:
        ValueError: If the command line is not valid.
        KeyboardInterrupt: After Ctrl-C or another stop signal, when all runs have ended.
    """
    options, settings = parse(arguments)
    from pipelines.cross_validation.plan import make_plan, read_plan
    from pipelines.search.search import Search

    if options.resume is not None:
        plan, search = read_plan(options.resume), Search(options.resume)
    else:
        print("checking the settings", flush=True)  # takes some seconds
        plan = make_plan(settings, 5 if options.folds is None else options.folds, options.grid)
        search = _create(plan, options.pack)
    interrupt_on_signals()
    allow_many_files()
    folder = as_typed(search.folder)
    runs = count(int(search.sweep.size), "run")
    num_settings = count(len(list(plan.settings)), "setting")
    print(f"{plan.topic}: {num_settings} in {plan.folds} folds, {runs}; {folder}")
    if search.pack > 1:
        print(f"packs              up to {count(search.pack, 'run')} in a process, which differ in numbers alone")
    print("The line of a run shows its best epoch, the table at the end the last epoch.", flush=True)
    try:
        return _validate(plan, search, options.parallel, options.no_test)
    except KeyboardInterrupt:
        no_test = " --no-test" if options.no_test else ""
        print(f"continue with      {command('crossval', '--resume', folder)}{no_test}", file=sys.stderr)
        raise


def _create(plan: "Plan", pack: int | None) -> "Search":
    from tempfile import TemporaryDirectory

    from pipelines.search.packing import pack_size
    from pipelines.search.search import Search
    from pipelines.trials.local_machine import visible_gpus

    with TemporaryDirectory() as folder:
        sweep = plan.sweep(Path(folder))
        size = pack_size(sweep, pack, plan.model, bool(visible_gpus()), time_limit=None)
        search = Search.create(sweep, Path("logs"), pack=size)
    plan.save(search.folder)
    return search


def _validate(plan: "Plan", search: "Search", parallel: int | None, no_test: bool) -> bool:
    from pipelines.cross_validation.final_run import train_and_test
    from pipelines.cross_validation.fold_plot import plot_folds
    from pipelines.cross_validation.results import collect_results, is_complete, results_table, write_csv
    from pipelines.search.launcher import run_search

    run_search(search, parallel)
    results = collect_results(plan, search)
    best, folder = results[0], as_typed(search.folder)
    write_csv(plan, results, search.folder / "folds.csv")
    plot_folds(plan, results, search.folder / "folds.png")
    print(results_table(plan, results))
    print(f"scores             {folder / 'folds.csv'}")
    print(f"plot               {folder / 'folds.png'}")
    print(f"compare the runs   {command('compare', folder)}", flush=True)
    if not is_complete(plan, best):
        print("No setting has a score on every fold, so none is selected.", file=sys.stderr)
        return False
    print(f"best setting       {best.label or shlex.join(plan.arguments)}", flush=True)
    all_complete = all(is_complete(plan, result) for result in results)
    if no_test:
        return all_complete
    test = train_and_test(plan, search, best)
    if test.run is not None:
        print(f"final run          {as_typed(test.run)}, on all training images")
    if test.score is None:
        print(f"The final run has no {test.metric}: {test.reason}", file=sys.stderr)
        return False
    print(f"{test.metric:<18} {figure(test.score)}, of its last checkpoint")
    return all_complete


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line; exit status 1 if a run failed, 2 and one sentence for a user's mistake."""
    run_command(usage, crossval, arguments)


if __name__ == "__main__":
    main()
