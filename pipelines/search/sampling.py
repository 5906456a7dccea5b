"""Chooses the next point of a sweep: a pure function of the earlier trials, the seed and the number of the trial.

So a resumed sweep continues as if it had not been interrupted, several launchers never draw the same point (with one
fixed seed in each they would), and a sweep with one trial at a time is reproducible by its seed.
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
_MAX_ATTEMPTS = 20  # of a sampler that proposes points already tried; then one is drawn at random
_MAX_DRAWS = 1000  # at random; then it is chosen among those not tried
_MAX_LISTED = 100_000  # points

optuna.logging.set_verbosity(optuna.logging.WARNING)


def propose(sweep: SweepFile, trials: Sequence[FrozenTrial], sampler: SamplerName, seed: int) -> dict[str, Any] | None:
    """Returns the next point as Optuna's parameters, or None if every point was tried that has a chance to be drawn.

    Args:
        sweep: The sweep file.
        trials: All trials so far, including running ones.
        sampler: Sampler of the method bayes: tpe, the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011),
            or gp, a Gaussian process.
        seed: Seed of the search.
    """
    space = {name: distribution.optuna for name, distribution in sweep.searched.items()}
    tried = {point_key(sweep, trial.params) for trial in trials}
    if len(tried) >= sweep.size:
        return None
    if sweep.method == "grid":
        return next(point for point in _grid(sweep) if point_key(sweep, point) not in tried)
    seeds = np.random.SeedSequence([seed, len(trials)]).generate_state(2)
    random = RandomSampler(seed=int(seeds[0]))
    learning = random if sweep.method == "random" else _learning_sampler(sampler, int(seeds[1]))
    study = optuna.create_study(sampler=learning, direction=sweep.goal)
    study.add_trials(list(trials))
    for _ in range(_MAX_ATTEMPTS):
        trial = study.ask(space)
        if point_key(sweep, trial.params) not in tried:
            return trial.params
        _tell_known_value(study, trial, trials)
    study.sampler = random
    for _ in range(_MAX_DRAWS):
        trial = study.ask(space)
        if point_key(sweep, trial.params) not in tried:
            return trial.params
    return _untried(sweep, tried, int(seeds[0]))


def point_key(sweep: SweepFile, params: dict[str, Any]) -> str:
    """Returns a text that is equal for points with equal values on the trial's command line."""
    return json.dumps(point_values(sweep, params))


def point_values(sweep: SweepFile, params: dict[str, Any]) -> dict[str, Any]:
    """Returns the values by dotted name, constants included, of a point that Optuna sampled."""
    return {
        name: distribution.settings["value"] if distribution.name == "constant" else distribution.value(params[name])
        for name, distribution in sweep.parameters.items()
    }


def _learning_sampler(name: SamplerName, seed: int) -> BaseSampler:
    if name == "gp":
        return GPSampler(seed=seed)
    # constant_liar: running trials count as bad, so that parallel ones spread out.
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _grid(sweep: SweepFile) -> Iterator[dict[str, Any]]:
    """Every point, the last parameter changing fastest."""
    axes = [[json.dumps(value) for value in distribution.grid()] for distribution in sweep.searched.values()]
    for point in itertools.product(*axes):
        yield dict(zip(sweep.searched, point, strict=True))


def _untried(sweep: SweepFile, tried: set[str], seed: int) -> dict[str, Any] | None:
    """Chooses among all points that were not tried; None if there are none, or more points than can be listed.

    A sweep of many points whose draws were all tried has distributions with nearly all their mass on few values.
    """
    if sweep.size > _MAX_LISTED:
        return None
    axes = [distribution.representatives() for distribution in sweep.searched.values()]
    points = [dict(zip(sweep.searched, point, strict=True)) for point in itertools.product(*axes)]
    left = [point for point in points if point_key(sweep, point) not in tried]
    return left[int(np.random.default_rng(seed).integers(len(left)))] if left else None


def _tell_known_value(study: optuna.Study, trial: optuna.Trial, trials: Sequence[FrozenTrial]) -> None:
    """Reports the known value of a repeated point to the sampler, so that its next proposal differs."""
    same = [other.value for other in trials if other.params == trial.params and other.state == TrialState.COMPLETE]
    if same:
        study.tell(trial, same[0])
    else:
        study.tell(trial, state=TrialState.FAIL)
