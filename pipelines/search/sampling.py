"""Which point a sweep tries next: a pure function of what was tried before, the seed and the number of the trial.

So a resumed sweep goes on as if it had not been interrupted, several launchers never draw the same point (a fixed seed
in each would), and a sweep with one trial at a time is repeated exactly by its seed.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from pipelines.search.sweep_file import SweepFile

SamplerName = Literal["tpe", "gp"]
_TRIES = 20  # of a sampler that proposes what was tried already, before chance takes over

optuna.logging.set_verbosity(optuna.logging.WARNING)


def propose(sweep: SweepFile, trials: Sequence[FrozenTrial], sampler: SamplerName, seed: int) -> dict[str, Any] | None:
    """The next point as Optuna's parameters, or None if every point was tried.

    Args:
        sweep: what is searched.
        trials: all trials so far, those that run included.
        sampler: for the method bayes: the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) or a
            Gaussian process.
        seed: the sweep's.
    """
    space = {name: distribution.optuna for name, distribution in sweep.searched.items()}
    tried = {point_key(sweep, trial.params) for trial in trials}
    if len(tried) >= sweep.size:
        return None
    if sweep.method == "grid":
        return next(point for point in _grid(sweep) if point_key(sweep, point) not in tried)
    chance = np.random.SeedSequence([seed, len(trials)]).generate_state(2)
    random = RandomSampler(seed=int(chance[0]))
    learning = random if sweep.method == "random" else _learning_sampler(sampler, int(chance[1]))
    study = optuna.create_study(sampler=learning, direction=sweep.goal)
    study.add_trials(list(trials))
    for _ in range(_TRIES):
        trial = study.ask(space)
        if point_key(sweep, trial.params) not in tried:
            return trial.params
        _tell_again(study, trial, trials)
    study.sampler = random
    while True:  # ends: fewer points were tried than there are
        trial = study.ask(space)
        if point_key(sweep, trial.params) not in tried:
            return trial.params


def point_key(sweep: SweepFile, params: dict[str, Any]) -> str:
    """The same text for the same values, as the trial's command line would show them."""
    return json.dumps(point_values(sweep, params))


def point_values(sweep: SweepFile, params: dict[str, Any]) -> dict[str, Any]:
    """A point's values by dotted name, constants included, for what Optuna sampled."""
    return {
        name: distribution.settings["value"] if distribution.name == "constant" else distribution.value(params[name])
        for name, distribution in sweep.parameters.items()
    }


def _learning_sampler(name: SamplerName, seed: int) -> BaseSampler:
    if name == "gp":
        return GPSampler(seed=seed)
    # constant_liar: trials that still run count as bad, so that parallel ones spread out.
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _grid(sweep: SweepFile) -> Iterator[dict[str, Any]]:
    """Every point, the last parameter changing fastest."""
    axes = [[json.dumps(value) for value in distribution.grid()] for distribution in sweep.searched.values()]
    for point in itertools.product(*axes):
        yield dict(zip(sweep.searched, point, strict=True))


def _tell_again(study: optuna.Study, trial: optuna.Trial, trials: Sequence[FrozenTrial]) -> None:
    """Tells the sampler what the repeated point was worth, so that it looks elsewhere."""
    same = [other.value for other in trials if other.params == trial.params and other.state == TrialState.COMPLETE]
    if same:
        study.tell(trial, same[0])
    else:
        study.tell(trial, state=TrialState.FAIL)
