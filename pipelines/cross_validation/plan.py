"""Plans a cross-validation: every setting of a grid on every fold, as a grid sweep with the fold as a parameter.

So its runs are the trials of a sweep: `pipelines.search` starts, follows, stops and resumes them, and
`pipelines.sweep show` and `pipelines.compare` display them. What a sweep file can't express is stored next to it, in
crossval.json.

A model may evaluate many values of a setting in one run, as k-nearest neighbors does with k: its class declares them in
`one_pass_settings`, such as {"k": "report_k"}. Then a fold is one run with `--model.report_k` set to all values, which
logs `val/accuracy/k=3` for each.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import yaml

from common.errors import UserError
from common.yaml_text import load_yaml
from pipelines.search.sweep_file import SweepFile, read_sweep
from pipelines.tracking.curves import Goal

_FOLD_SETTINGS = ("data.fold", "data.num_folds")  # set by this pipeline


@dataclass(frozen=True)
class Plan:
    """The settings, folds and metric of a cross-validation.

    Attributes:
        topic: Topic, the name of the folder of the runs.
        arguments: Arguments of `fit` that all runs share.
        folds: Number of folds, ≥ 2.
        grid: Values of each searched setting by dotted name; empty for the single setting of the arguments.
        metric: Monitored metric, such as "val/accuracy".
        goal: Whether larger or smaller values of it are better.
        one_pass: Setting of the grid whose values one run evaluates together, and the setting that lists them; empty if
            there is none.
        model: Class of the model, without its module; None in plans of earlier versions.
    """

    topic: str
    arguments: list[str]
    folds: int
    grid: dict[str, list[Any]]
    metric: str
    goal: Goal
    one_pass: list[str] = field(default_factory=list)
    model: str | None = None

    @property
    def settings(self) -> Iterator[dict[str, Any]]:
        """All combinations of the grid's values, by dotted name."""
        for values in itertools.product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))

    def searched(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the part of a setting that differs between runs: all but what one run evaluates together."""
        return {name: value for name, value in setting.items() if name not in self.one_pass}

    def metric_of(self, setting: Mapping[str, Any]) -> str:
        """Returns the name under which a run logs the metric of a setting."""
        if not self.one_pass:
            return self.metric
        name = self.one_pass[0]
        return f"{self.metric}/{name.rpartition('.')[2]}={setting[name]}"

    def sweep(self, folder: Path) -> SweepFile:
        """Writes the sweep file of the runs into `folder` and reads it; all folds of a setting are consecutive."""
        parameters: dict[str, Any] = {name: {"values": values} for name, values in self.searched(self.grid).items()}
        if self.one_pass:
            name, lists = self.one_pass
            parameters[lists] = {"value": self.grid[name]}
        parameters |= {"data.num_folds": {"value": self.folds}, "data.fold": {"values": list(range(self.folds))}}
        content = {
            "name": f"{self.topic} in {self.folds} folds",
            "method": "grid",
            "metric": {"name": self.metric, "goal": self.goal},
            "command": [
                *("${env}", "python", "-m", "pipelines.train", "fit", *self.arguments, "--config", "${args_json_file}")
            ],
            "parameters": parameters,
        }
        file = folder / f"crossval-{self.topic}.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return read_sweep(file)

    def save(self, folder: Path) -> None:
        """Writes the plan into the sweep's folder."""
        (folder / "crossval.json").write_text(json.dumps(asdict(self), indent=1))


def read_plan(folder: Path) -> Plan:
    """Reads the plan that `Plan.save` wrote.

    Raises:
        ValueError: If there is none, or it is damaged.
    """
    try:
        return Plan(**json.loads((folder / "crossval.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"{folder} is not a cross-validation's folder; give one such as logs/sweeps/crossval-softmax-…, or start "
            "a new one."
        ) from None


def make_plan(arguments: list[str], folds: int, grid: Sequence[str]) -> Plan:
    """Makes a plan, and checks the command line of every run and that there are enough images for the folds.

    Args:
        arguments: Arguments of `fit`, including --config.
        folds: Number of folds, ≥ 2.
        grid: Values of each searched setting as NAME=VALUE,VALUE,….

    Raises:
        ValueError: If a setting, the grid or the number of folds is not valid.
    """
    if folds < 2:
        raise UserError(f"--folds is {folds}; it must be at least 2.")
    names = [argument.partition("=")[0].removeprefix("--") for argument in arguments if argument.startswith("--")]
    for name in ("ckpt_path", *_FOLD_SETTINGS):
        if name in names:
            raise UserError(f"--{name} was given, but it differs between the runs of the folds; leave it out.")
    values = _read_grid(grid)
    for name in values:
        if name in names:
            raise UserError(f"--{name} and --grid {name} were both given; give one of them.")
    metric, goal, model, topic = _inspect_first_run(arguments, folds)
    one_pass: dict[str, str] = getattr(model, "one_pass_settings", {})
    pairs = [[f"model.{name}", f"model.{lists}"] for name, lists in one_pass.items() if f"model.{name}" in values]
    plan = Plan(topic, arguments, folds, values, metric, goal, pairs[0] if pairs else [], model.__name__)
    from pipelines.search.parameter_check import check_parameters

    with TemporaryDirectory() as folder:
        sweep = plan.sweep(Path(folder))
        try:
            check_parameters(sweep)
        except ValueError as error:
            raise UserError(str(error).removeprefix(f"{sweep.path}: ")) from None
    return plan


def _inspect_first_run(arguments: list[str], folds: int) -> tuple[str, Goal, type, str]:
    """Builds the first run's model and data; returns its metric and goal, the model's class and its topic.

    Raises:
        ValueError: If a setting is not valid, the metric is not one of validation, or there are too few images.
    """
    from pipelines.run.build import build
    from pipelines.train import resolve

    resolved, topic = resolve(["fit", *arguments, "--data.num_folds", str(folds), "--data.fold", "0"])
    built = build(resolved, topic)
    checkpoint = built.config["fit"]["checkpoint"]
    if not str(checkpoint["monitor"]).startswith("val/"):
        raise UserError(
            f"checkpoint.monitor is {checkpoint['monitor']}; it must be a validation metric, such as val/loss."
        )
    built.datamodule.setup("validate")  # loads the images and splits them
    goal = cast(Goal, f"{checkpoint['mode']}imize")
    return checkpoint["monitor"], goal, type(built.model), topic


def _read_grid(grid: Sequence[str]) -> dict[str, list[Any]]:
    """Parses the values by dotted name; text such as 1e-3, which is not a number to YAML, is converted."""
    grid_values: dict[str, list[Any]] = {}
    for argument in grid:
        name, equals, text = argument.partition("=")
        name = name.removeprefix("--")
        if not name or not equals:
            raise UserError(f"--grid is {argument!r}; give NAME=VALUE,VALUE,…, such as optimizer.lr=1e-3,1e-2.")
        if name in grid_values:
            raise UserError(f"--grid {name} was given twice; give all its values in one option.")
        if name in _FOLD_SETTINGS:
            raise UserError(f"--grid {name} was given, but it differs between the runs of the folds; leave it out.")
        try:
            values = [_number(value) for value in load_yaml(f"[{text}]", f"--grid {name}")]
        except UserError:
            values = []
        if not values or text.rstrip().endswith(","):
            raise UserError(f"--grid {name} has the values {text!r}; give one or more, separated by commas.")
        duplicates = [value for i, value in enumerate(values) if value in values[:i]]
        if duplicates:
            raise UserError(f"--grid {name} has the value {duplicates[0]} twice; give each value once.")
        grid_values[name] = values
    return grid_values


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
