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
from common.yaml_text import load_yaml, read_yaml_file
from pipelines.search.distributions import Distribution, read_distribution
from pipelines.search.early_termination import EarlyTermination, read_early_termination
from pipelines.search.sweep_command import read_command
from pipelines.tracking.curves import Goal
from pipelines.tracking.metric_goals import known_mode
from pipelines.tracking.wandb_options import PROJECT

METHODS = ("grid", "random", "bayes")
_KEYS = (
    *("name", "description", "project", "entity", "program", "command", "method", "metric", "metrics", "parameters"),
    *("early_terminate", "run_cap", "apiVersion", "kind", "controller", "job", "image_uri", "scheduler"),
)
_FOR_WANDB = ("metrics", "controller", "job", "image_uri", "scheduler")
_METRIC_KEYS = ("name", "goal", "target", "impute", "impute_while_running")


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
        target: Value of the metric at which the search starts no more runs; None for none.
        parameters: Distribution of each parameter by dotted name, in the file's order, constants included.
        command: Words of the command, with macros such as ${args_json_file} not yet replaced.
        run_cap: Largest number of runs; None for no limit.
        early_terminate: When a poor run is stopped early; None for never.
        tracking: Environment variables of W&B that name the file's project and entity.
        for_wandb: Keys of the file that only W&B's service uses.
    """

    path: Path
    text: str
    name: str
    method: str
    metric: str
    goal: Goal
    target: float | None
    parameters: dict[str, Distribution]
    command: tuple[str, ...]
    run_cap: int | None
    early_terminate: EarlyTermination | None
    tracking: dict[str, str]
    for_wandb: tuple[str, ...]

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
        text = read_yaml_file(path)
    except OSError:
        known = sorted(str(file) for file in Path("sweeps").glob("*.yaml"))
        hint = f"give one of {', '.join(known)}" if known else "give the path of a YAML file"
        raise UserError(f"There is no sweep file {path}; {hint}.") from None
    return parse_sweep(path, text)


def parse_sweep(path: Path, text: str) -> SweepFile:
    """Checks the content of a sweep file; `path` is for messages.

    Raises:
        ValueError: If it is not YAML, or a key or value is not valid.
    """
    content = _as_wandb_reads(text, str(path))
    try:
        return _read(path, text, content)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _as_wandb_reads(text: str, name: str) -> Any:
    """Returns the content of a sweep file, as W&B reads it.

    Raises:
        ValueError: If it is not valid YAML, or has a number that YAML 1.1 reads as another one: 010 as 8, 1:30 as 90.
    """
    meant, content = load_yaml(text, name), yaml.safe_load(text)
    pairs: list[tuple[str, Any, Any]] = [("", meant, content)]
    while pairs:
        key, ours, theirs = pairs.pop()
        if isinstance(ours, dict) and isinstance(theirs, dict):
            for inner, value in ours.items():
                pairs.append((f"{key}.{inner}" if key else str(inner), value, theirs.get(inner)))
        elif isinstance(ours, list) and isinstance(theirs, list):
            pairs += [(key, one, other) for one, other in zip(ours, theirs, strict=True)]
        elif isinstance(theirs, int) and ours != theirs:
            raise UserError(f"{name}: {key} is {ours}, which W&B reads as {theirs}; write {theirs}, or quote text.")
    return content


def _read(path: Path, text: str, content: Any) -> SweepFile:
    if not isinstance(content, dict):
        raise UserError("it has no keys; a sweep file needs method, metric, parameters and a command.")
    for key in content:
        if key not in _KEYS:
            near = get_close_matches(str(key), _KEYS, 1)
            raise UserError(
                f"unknown key {key!r}; " + (f"did you mean {near[0]}?" if near else f"give one of {', '.join(_KEYS)}.")
            )
    for key in ("name", "project", "entity", "program"):
        if content.get(key) is not None and not isinstance(content[key], str | int | float):
            raise UserError(f"{key} is {content[key]!r}; it must be text.")
    method = _read_method(content.get("method"))
    metric, goal, target = _read_metric(content.get("metric"))
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
        target=target,
        parameters=parameters,
        command=read_command(content),
        run_cap=run_cap,
        early_terminate=read_early_termination(content.get("early_terminate")),
        tracking={
            f"WANDB_{key.upper()}": str(content[key])
            for key in ("project", "entity")
            if content.get(key) not in (None, "", PROJECT)  # the default, which `wandb init` may replace
        },
        for_wandb=tuple(
            [f"metric.{key}" for key in content["metric"] if key.startswith("impute")]
            + [key for key in content if key in _FOR_WANDB]
        ),
    )


def _read_method(method: Any) -> str:
    if method in METHODS:
        return str(method)
    if method is None:
        raise UserError(f"there is no method; give one of {', '.join(METHODS)}.")
    near = get_close_matches(str(method).lower(), METHODS, 1)
    hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(METHODS)}."
    raise UserError(f"the method {method!r} is unknown; {hint}")


def _read_metric(metric: Any) -> tuple[str, Goal, float | None]:
    if metric is None:
        raise UserError("there is no metric; give one such as metric: {name: val/accuracy, goal: maximize}.")
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        name = metric if isinstance(metric, str) else "val/accuracy"
        raise UserError(f"the metric is {metric!r}; write metric: {{name: {name}, goal: maximize}}, or minimize.")
    for key in metric:
        if key not in _METRIC_KEYS:
            near = get_close_matches(str(key), _METRIC_KEYS, 1)
            hint = f"did you mean {near[0]}?" if near else f"give only {', '.join(_METRIC_KEYS)}."
            raise UserError(f"the metric has the unknown key {key!r}; {hint}")
    name, goal, target = metric["name"], metric.get("goal"), metric.get("target")
    if goal is None:
        if known_mode(name) != "min":
            raise UserError(
                f"the metric {name} has no goal, and W&B would minimize it; give goal: maximize or minimize."
            )
        goal = "minimize"
    if goal not in ("maximize", "minimize"):
        near = get_close_matches(str(goal).lower().replace("is", "iz"), ("maximize", "minimize"), 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "it must be maximize or minimize."
        raise UserError(f"the metric's goal is {goal!r}; {hint}")
    if target is not None and (isinstance(target, bool) or not isinstance(target, int | float)):
        raise UserError(f"the metric's target is {target!r}; it must be a number.")
    return name, cast(Goal, goal), target


def _read_parameters(content: Any, prefix: str = "") -> dict[str, Distribution]:
    if not isinstance(content, dict) or not content:
        where = f"parameter {prefix.removesuffix('.')} has no parameters" if prefix else "the file has no parameters"
        raise UserError(f"{where}; give at least one by its name, such as optimizer.lr: {{values: [0.1, 0.01]}}.")
    parameters: dict[str, Distribution] = {}
    for key, settings in content.items():
        name = f"{prefix}{key}"
        if not isinstance(key, str):
            raise UserError(
                f"parameter {name} has a name that YAML reads as a {type(key).__name__}; write it in quotes."
            )
        if key != key.strip() or not key:
            raise UserError(f"parameter {name!r} has a name that is empty or begins or ends with a space; correct it.")
        if key.startswith("-"):
            raise UserError(f"parameter {name} begins with a hyphen; write {key.lstrip('-')}, without.")
        if not isinstance(settings, dict):
            form = "values" if isinstance(settings, list) else "value"
            text = "null" if settings is None else settings
            raise UserError(f"parameter {name} is {text!s}; write {form}: {text}.")
        if "parameters" in settings:
            if len(settings) > 1:
                other = next(key for key in settings if key != "parameters")
                raise UserError(f"parameter {name} has parameters and {other}; give only one of them.")
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


def _nest(content: dict[str, Any], values: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        key: _nest(settings["parameters"], values, f"{prefix}{key}.")
        if "parameters" in settings
        else values[f"{prefix}{key}"]
        for key, settings in content.items()
    }
