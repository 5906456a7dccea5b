"""Chooses settings by k-fold cross-validation, trains the best on all training images and tests it once.

python -m pipelines.crossval --config softmax --folds 5 --grid optimizer.lr=1e-3,1e-2 --grid model.reg=0.01,0.1
python -m pipelines.crossval --config svm --folds 5 --data.preprocessing whiten --no-test
python -m pipelines.crossval --resume logs/sweeps/crossval-softmax-…        # goes on where it stopped

Each fold of each setting is a run of `pipelines.train fit` with --data.num_folds and --data.fold, in a process of its
own. A setting's figure is the mean over its folds of the headline metric, the configuration's checkpoint.monitor, after
the last epoch. The test images play no part in the choice.

Source: https://cs231n.github.io/classification/#val
"""

import argparse
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from pipelines.console.formatting import count, figure
from pipelines.console.option_parser import OptionParser
from pipelines.console.run_command import run_command
from pipelines.run.run_folder import as_typed
from pipelines.run.topics import topics

if TYPE_CHECKING:
    from pipelines.cross_validation.plan import Plan
    from pipelines.search.search import Search


def usage() -> str:
    """The help that needs no topic."""
    options = {
        "--folds K": "how many parts the training images are cut into (default: 5)",
        "--grid NAME=A,B,…": "values of a setting; several grids are combined, no grid is a single setting",
        "--parallel N": "runs at a time (default: one a GPU, or a core)",
        "--no-test": "only choose: neither train on all training images nor test",
        "--KEY VALUE": "settings of every run, as in pipelines.train fit",
        "--resume FOLDER": "go on with one that was stopped",
    }
    lines = ["usage: python -m pipelines.crossval --config TOPIC|FILE [--folds K] [--grid NAME=VALUE,VALUE ...]"]
    lines += ["         [--parallel N] [--no-test] [--KEY VALUE ...]"]
    lines += ["       python -m pipelines.crossval --resume FOLDER [--parallel N] [--no-test]"]
    lines += ["", *(f"  {name:<18} {text}" for name, text in options.items())]
    lines += ["", "topics:", *(f"  {name:<10} {text}" for name, text in topics().items())]
    return "\n".join([*lines, "", "What each setting means:  python -m pipelines.train fit --help"])


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This pipeline's own options, and what is left for `fit`, --config first.

    Raises:
        ValueError: an option without its value, or options that exclude each other.
    """
    parser = OptionParser("python -m pipelines.crossval", add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-c", action="append", default=[])
    parser.add_argument("--folds", type=int)
    parser.add_argument("--grid", action="append", default=[])
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--no-test", action="store_true")
    parser.add_argument("--resume", type=Path)
    given, rest = parser.parse_known_args(arguments)
    if given.parallel is not None and given.parallel < 1:
        raise UserError(f"--parallel is {given.parallel}; give at least 1.")
    if given.resume is not None and (given.config or given.grid or given.folds is not None or rest):
        raise UserError("--resume takes up settings, folds and grid as they were; give it with --parallel alone.")
    if given.resume is None and not given.config:
        raise UserError(f"Say what to validate: --config with a topic ({', '.join(topics())}) or a YAML file.")
    return given, [word for config in given.config for word in ("--config", config)] + rest


def crossval(arguments: list[str]) -> bool:
    """Carries out a command line, and says whether nothing failed.

    Raises:
        ValueError: a command line that can't be carried out.
        KeyboardInterrupt: Ctrl-C or SIGTERM; by then no run is left.
    """
    given, settings = parse(arguments)
    from pipelines.cross_validation.plan import make_plan, read_plan
    from pipelines.search.search import Search

    if given.resume is not None:
        plan, search = read_plan(given.resume), Search(given.resume)
    else:
        print("checking the settings", flush=True)  # takes some seconds
        plan = make_plan(settings, 5 if given.folds is None else given.folds, given.grid)
        search = _create(plan)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it raises KeyboardInterrupt, as Ctrl-C does
    folder = as_typed(search.folder)
    runs = count(int(search.sweep.size), "run")
    settings_told = count(len(list(plan.settings)), "setting")
    print(f"{plan.topic}: {settings_told} in {plan.folds} folds, {runs}; {folder}")
    print("A run's line shows its best epoch; the table after them takes the last.", flush=True)
    try:
        return _work(plan, search, given.parallel, given.no_test)
    except KeyboardInterrupt:
        options = " --no-test" if given.no_test else ""
        print(f"go on with         python -m pipelines.crossval --resume {folder}{options}", file=sys.stderr)
        raise


def _create(plan: "Plan") -> "Search":
    from tempfile import TemporaryDirectory

    from pipelines.search.search import Search

    with TemporaryDirectory() as folder:
        search = Search.create(plan.sweep(Path(folder)), Path("logs"))
    plan.save(search.folder)
    return search


def _work(plan: "Plan", search: "Search", parallel: int | None, no_test: bool) -> bool:
    from pipelines.cross_validation.final_run import train_and_test
    from pipelines.cross_validation.fold_plot import draw
    from pipelines.cross_validation.results import collect, complete, table, write_csv
    from pipelines.search.launcher import run_search

    run_search(search, parallel)
    results = collect(plan, search)
    best, folder = results[0], as_typed(search.folder)
    write_csv(plan, results, search.folder / "folds.csv")
    draw(plan, results, search.folder / "folds.png")
    print(table(plan, results))
    print(f"figures            {folder / 'folds.csv'}")
    print(f"picture            {folder / 'folds.png'}")
    print(f"compare the runs   python -m pipelines.compare {folder}", flush=True)
    if not complete(plan, best):
        print("No setting has a figure for every fold, so none is chosen.", file=sys.stderr)
        return False
    print(f"best setting       {best.named or shlex.join(plan.arguments)}", flush=True)
    good = all(complete(plan, result) for result in results)
    if no_test:
        return good
    tested = train_and_test(plan, search, best)
    if tested.run is not None:
        print(f"final run          {as_typed(tested.run)}, with no training image held out")
    if tested.figure is None:
        print(f"The final run has no {tested.metric}: {tested.reason}", file=sys.stderr)
        return False
    print(f"{tested.metric:<18} {figure(tested.figure)}, of its last checkpoint")
    return good


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line; ends with status 1 if a run failed, 2 and one sentence if it can't be carried out."""
    run_command(usage, crossval, arguments)


if __name__ == "__main__":
    main()
