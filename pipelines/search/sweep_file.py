"""Reads and checks sweep files: the same YAML as for `wandb sweep`.

Keys and their meaning: https://docs.wandb.ai/models/sweeps/sweep-config-keys.
"""

import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import yaml

from common.errors import UserError
from pipelines.search.distributions import Distribution, read_distribution
from pipelines.tracking.curves import Goal

METHODS = ("grid", "random", "bayes")
_KEYS = (
    *("name", "description", "project", "entity", "program", "command", "method", "metric", "metrics", "parameters"),
    *("early_terminate", "run_cap", "apiVersion", "kind", "controller", "job", "image_uri", "scheduler"),
)


@dataclass(frozen=True)
class EarlyTermination:
    """Hyperband: a run is stopped after first, first × eta, first × eta², … values unless it is among the best 1/eta.

    Attributes:
        first: Number of values of the metric after which a run is compared for the first time, ≥ 1.
        eta: Reduction factor: the best 1/eta of the runs continue, ≥ 2.
    """

    first: int
    eta: int


@dataclass(frozen=True)
class SweepFile:
    """A checked sweep file.

    Attributes:
        path: Path of the file.
        text: Its content.
        name: Name of the sweep; by default the file's stem.
        method: "grid", "random" or "bayes".
        metric: Name of the metric that the search optimizes, such as "val/accuracy".
        goal: "maximize" or "minimize".
        parameters: Distribution of each parameter by dotted name, in the file's order, constants included.
        command: Words of the command, with macros such as ${args_json_file} not yet replaced.
        run_cap: Largest number of runs; None for no limit.
        early_terminate: When a poor run is stopped early; None for never.
    """

    path: Path
    text: str
    name: str
    method: str
    metric: str
    goal: Goal
    parameters: dict[str, Distribution]
    command: tuple[str, ...]
    run_cap: int | None
    early_terminate: EarlyTermination | None

    @property
    def searched(self) -> dict[str, Distribution]:
        """The parameters that are not constant."""
        return {name: distribution for name, distribution in self.parameters.items() if distribution.name != "constant"}

    @property
    def size(self) -> float:
        """Number of distinct points; infinite with a continuous parameter."""
        return math.prod(distribution.size for distribution in self.searched.values())

    def nested(self, values: dict[str, Any]) -> dict[str, Any]:
        """Converts values by dotted name to the form that W&B passes to a run: nested where the file is nested."""
        content = yaml.safe_load(self.text)["parameters"]
        return _nest(content, values, "")


def read_sweep(path: Path) -> SweepFile:
    """Reads and checks a sweep file.

    Raises:
        ValueError: If the file is missing or not YAML, or a key or value is not valid.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        known = sorted(str(file) for file in Path("sweeps").glob("*.yaml"))
        hint = f"give one of {', '.join(known)}" if known else "give the path of a YAML file"
        raise UserError(f"There is no sweep file {path}; {hint}.") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        position = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(
            f"{path} is not valid YAML ({position}{getattr(error, 'problem', error)}); correct it."
        ) from None
    try:
        return _read(path, text, content)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _read(path: Path, text: str, content: Any) -> SweepFile:
    if not isinstance(content, dict):
        raise UserError("it has no keys; a sweep file needs method, metric, parameters and a command.")
    for key in content:
        if key not in _KEYS:
            near = get_close_matches(str(key), _KEYS, 1)
            raise UserError(
                f"unknown key {key!r}; " + (f"did you mean {near[0]}?" if near else f"give one of {', '.join(_KEYS)}.")
            )
    method = content.get("method")
    if method not in METHODS:
        problem = f"the method {method!r} is unknown" if method else "there is no method"
        raise UserError(f"{problem}; give one of {', '.join(METHODS)}.")
    metric, goal = _read_metric(content.get("metric"))
    parameters = _read_parameters(content.get("parameters"))
    if method == "grid":
        for name, distribution in parameters.items():
            try:
                parameters[name] = distribution.as_categorical
            except ValueError as error:
                raise UserError(f"parameter {name} {error}") from None
    run_cap = content.get("run_cap")
    if run_cap is not None and (not isinstance(run_cap, int) or isinstance(run_cap, bool) or run_cap < 1):
        raise UserError(f"run_cap is {run_cap!r}; it must be a whole number, at least 1.")
    return SweepFile(
        path=path,
        text=text,
        name=str(content.get("name") or path.stem),
        method=method,
        metric=metric,
        goal=goal,
        parameters=parameters,
        command=_read_command(content),
        run_cap=run_cap,
        early_terminate=_read_early_termination(content.get("early_terminate")),
    )


def _read_metric(metric: Any) -> tuple[str, Goal]:
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise UserError("there is no metric; give one such as metric: {name: val/accuracy, goal: maximize}.")
    goal = metric.get("goal", "minimize")
    if goal not in ("maximize", "minimize"):
        raise UserError(f"the metric's goal is {goal!r}; it must be maximize or minimize.")
    return metric["name"], cast(Goal, goal)


def _read_parameters(content: Any, prefix: str = "") -> dict[str, Distribution]:
    if not isinstance(content, dict) or not content:
        raise UserError(f"{prefix or 'the file has no parameters'}; give at least one parameter.")
    parameters: dict[str, Distribution] = {}
    for key, settings in content.items():
        name = f"{prefix}{key}"
        if not isinstance(settings, dict):
            raise UserError(f"parameter {name} is {settings!r}; write a constant as value: {settings}.")
        if "parameters" in settings:
            inner = _read_parameters(settings["parameters"], f"{name}.")
        else:
            try:
                inner = {name: read_distribution(settings)}
            except ValueError as error:
                raise UserError(f"parameter {name} {error}") from None
        duplicates = sorted(parameters.keys() & inner.keys())
        if duplicates:
            raise UserError(f"parameter {duplicates[0]} is defined twice; keep one of them.")
        parameters |= inner
    return parameters


def _read_command(content: dict[str, Any]) -> tuple[str, ...]:
    command = content.get("command")
    if command is None:
        if not isinstance(content.get("program"), str):
            raise UserError("there is neither a command nor a program; give the command that starts a run.")
        command = ["${env}", "${interpreter}", "${program}", "${args}"]
    if not isinstance(command, list) or not command:
        raise UserError(f"the command is {command!r}; give a list of words.")
    return tuple(str(content["program"]) if word == "${program}" else str(word) for word in command)


def _read_early_termination(content: Any) -> EarlyTermination | None:
    if content is None:
        return None
    if not isinstance(content, dict) or content.get("type") != "hyperband":
        raise UserError("early_terminate is not of type hyperband, the only type; give type: hyperband.")
    numbers = {key: content[key] for key in ("min_iter", "max_iter", "s", "eta") if key in content}
    for key, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise UserError(f"early_terminate has {key} {number!r}; it must be a whole number, at least 1.")
    eta = numbers.get("eta", 3)
    if eta < 2:
        raise UserError(f"early_terminate has eta {eta}; it must be at least 2.")
    if "min_iter" in numbers:
        return EarlyTermination(numbers["min_iter"], eta)
    if "max_iter" in numbers and "s" in numbers:
        return EarlyTermination(max(1, round(numbers["max_iter"] / eta ** numbers["s"])), eta)
    raise UserError("early_terminate has neither min_iter nor both max_iter and s; give one of these.")


def _nest(content: dict[str, Any], values: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        key: _nest(settings["parameters"], values, f"{prefix}{key}.")
        if "parameters" in settings
        else values[f"{prefix}{key}"]
        for key, settings in content.items()
    }
