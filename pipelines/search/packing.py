"""Chooses the trials that are trained together as a pack (`pipelines/packs`): those that differ in numbers alone.

The points of a pack are proposed at once, so a search of the method bayes learns from whole packs.
"""

import json
from collections import defaultdict, deque
from collections.abc import Sequence
from math import ceil
from typing import Any

from common.errors import UserError
from pipelines.search.search import Search, Trial
from pipelines.search.sweep_file import SweepFile
from pipelines.trials.warm_server import train_command

_FREE = ("optimizer", "lr_scheduler")  # each run of a pack has its own, of any class
_LARGEST = 32  # trials in a pack: from there on a step of one more costs as much as that of the last
_LARGEST_LEARNING = 8  # of the method bayes
_ON_CPU = ("LinearSVM", "SoftmaxRegression")  # models that packs make faster, by benchmarks/sweeps.py
_ON_GPU = (*_ON_CPU, "TwoLayerNet", "FullyConnectedNet", "ConvNet")  # small networks leave a GPU nearly idle


def pack_size(sweep: SweepFile, asked: int | None, model: str | None, gpu: bool, time_limit: float | None) -> int:
    """Returns the largest number of trials in a pack; 1 for a process a trial.

    Args:
        sweep: The sweep file.
        asked: Number that was asked for, ≥ 1; None packs where it was measured to be faster.
        model: Class of the trials' model, without its module; None if it is unknown.
        gpu: Whether trials run on a GPU.
        time_limit: Seconds after which a trial is stopped; None for no limit.

    Raises:
        ValueError: If a pack was asked for and no trials of the sweep could share one.
    """
    problem = _problem(sweep)
    if asked is not None:
        if asked > 1 and problem is not None:
            raise UserError(f"--pack is {asked}, but {problem}; leave it out for a process a trial.")
        return asked
    pays = (model or "") in (_ON_GPU if gpu else _ON_CPU)
    if problem is not None or not pays or time_limit is not None:  # a trial shares its time with the others
        return 1
    return _LARGEST_LEARNING if sweep.method == "bayes" else _LARGEST


def starts_runs(command: Sequence[str]) -> bool:
    """Returns whether the command of a sweep file starts runs that can be forked from a process of this one's kind."""
    words = ["python" if word == "${interpreter}" else word for word in command if word != "${env}"]
    return train_command(words) is not None


def _problem(sweep: SweepFile) -> str | None:
    """Returns why no trials of a sweep could share a pack, None if some could."""
    if not starts_runs(sweep.command):
        return "the command of the sweep does not start python -m pipelines.train"
    if not _numbers(sweep) & set(sweep.searched):
        searched = ", ".join(sweep.searched) or "nothing"
        return (
            "trials share a process if they differ in numbers of optimizer, lr_scheduler or model alone, and the sweep "
            f"searches {searched}"
        )
    return None


def _numbers(sweep: SweepFile) -> set[str]:
    """Returns the parameters in which the trials of a pack may differ."""
    return {name for name, distribution in sweep.parameters.items() if _may_differ(name, distribution.examples)}


def _may_differ(name: str, examples: list[Any]) -> bool:
    part, *settings = name.split(".")
    if part in _FREE:
        return True
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in examples)
    # Whole numbers are sizes.
    return part == "model" and bool(settings) and numbers and any(isinstance(value, float) for value in examples)


class Packing:
    """Hands out the trials of a sweep, one or a pack at a time.

    Args:
        search: The sweep, joined.
        shares: Number of trials or packs that run at the same time.
    """

    def __init__(self, search: Search, shares: int) -> None:
        self._search = search
        self._shares = shares
        self._numbers = _numbers(search.sweep)
        self._waiting: deque[list[Trial]] = deque()
        self._exhausted = False

    def next(self) -> list[Trial]:
        """Returns the trials to start next, several of them as a pack; none if no trial is left to start."""
        if not self._waiting:
            self._propose()
        return self._waiting.popleft() if self._waiting else []

    def again(self, trial: Trial) -> None:
        """Takes a trial back that has to be started again, as a process of its own."""
        self._waiting.appendleft([trial])

    def _propose(self) -> None:
        """Asks for the trials of the next packs, and divides those that can share one evenly."""
        size = self._search.pack
        wanted = size * self._shares if size > 1 else 1
        proposed: dict[str, list[Trial]] = defaultdict(list)
        while not self._exhausted and sum(map(len, proposed.values())) < wanted:
            trial = self._search.next_trial()
            self._exhausted = trial is None
            if trial is not None:
                proposed[self._key(trial)].append(trial)
        for trials in proposed.values():
            parts = max(ceil(len(trials) / size), min(self._shares, len(trials)))
            self._waiting.extend(trials[part::parts] for part in range(parts))

    def _key(self, trial: Trial) -> str:
        """Returns a text that is equal for trials that can share a pack."""
        return json.dumps({name: value for name, value in trial.values.items() if name not in self._numbers})
