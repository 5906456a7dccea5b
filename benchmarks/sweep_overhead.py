"""Overhead of the local engine per trial, beyond the trial's own process, with 200 trials finished.

    python -m benchmarks.sweep_overhead [--rounds R] [--trials N]

A trial is a process that writes one value of the metric and exits. In each round N of them run one at a time, once
started by a bare subprocess.run and once by a sweep with 200 finished trials; the difference of the two times, divided
by N, is the time that the engine takes to choose the parameters, write the journal, notice the exit and print the line.
The methods differ in how they choose: at random, or by TPE from all finished trials.
"""

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from pipelines.search.launcher import run_search
from pipelines.search.search import Search
from pipelines.search.sweep_file import read_sweep

_FINISHED = 200
_TRIAL = """
import os, pathlib
run = pathlib.Path("logs/fake") / os.environ["WANDB_RUN_ID"]
run.mkdir(parents=True, exist_ok=True)
(run / "metrics.csv").write_text("step,val/accuracy\\n0,0.5\\n")
"""
_PARAMETERS = {
    "optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.1},
    "model.reg": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0},
    "data.flip": {"values": [True, False]},
}


def overhead(method: str, trials: int, root: Path) -> float:
    """Returns the seconds per trial that a sweep of one method takes beyond the trials' processes."""
    command = [sys.executable, "-S", "-c", _TRIAL]
    metric = {"name": "val/accuracy", "goal": "maximize"}
    file = root / f"{method}.yaml"
    content = {"method": method, "metric": metric, "command": command, "parameters": _PARAMETERS}
    file.write_text(json.dumps(content))
    search = Search.create(read_sweep(file), root / "logs", run_cap=_FINISHED)
    search.join()
    for number in range(_FINISHED):
        search.next_trial()
        search.report(number, [number / _FINISHED])
        search.finish(number, "finished", None, 0.0)
    search.leave()
    search.extend(_FINISHED + trials)
    start = perf_counter()
    for number in range(trials):
        environment = {"WANDB_RUN_ID": f"bare-{number}"}
        subprocess.run(command, cwd=root, env=environment, check=True)
    between = perf_counter()
    with redirect_stdout(io.StringIO()):
        run_search(search, parallel=1)
    return ((perf_counter() - between) - (between - start)) / trials


def main(arguments: Sequence[str] | None = None) -> dict[str, list[float]]:
    """Prints the median, smallest and largest overhead of each method over the rounds, in seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=30)
    options = parser.parse_args(arguments)
    seconds: dict[str, list[float]] = {"random": [], "bayes": []}
    with TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for method, measured in seconds.items():
                measured.append(overhead(method, options.trials, Path(folder)))
    for method, measured in seconds.items():
        print(f"{method:<7} {median(measured):.3f} s a trial ({min(measured):.3f} to {max(measured):.3f})")
    return seconds


if __name__ == "__main__":
    main()
