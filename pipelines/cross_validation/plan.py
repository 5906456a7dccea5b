"""What a cross-validation tries: every setting of a grid on every fold, as a grid sweep with the fold as a parameter.

So its runs are a sweep's trials: started, watched, stopped and resumed by `pipelines.search`, shown by
`pipelines.sweep show` and `pipelines.compare`. What a sweep file has no word for lies beside it, in crossval.json.

A model may evaluate many values of a setting in one run, as k-nearest neighbors does with k: its class says so by
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
from pipelines.search.sweep_file import SweepFile, read_sweep
from pipelines.tracking.curves import Goal

_OURS = ("data.fold", "data.num_folds")  # which this pipeline sets


@dataclass(frozen=True)
class Plan:
    """What is tried.

    Attributes:
        topic: names the folder of the runs.
        arguments: what is typed after `fit`, the same for every run.
        folds: how many.
        grid: values by dotted name; one setting, that of the arguments, if it is empty.
        metric: the headline metric, such as "val/accuracy".
        goal: whether more of it is better.
        one_pass: the name in the grid whose values one run evaluates together, and the setting that lists them.
    """

    topic: str
    arguments: list[str]
    folds: int
    grid: dict[str, list[Any]]
    metric: str
    goal: Goal
    one_pass: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Iterator[dict[str, Any]]:
        """Every combination of the grid's values, by dotted name."""
        for values in itertools.product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))

    def searched(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """What of a setting tells its runs apart: all but what one run evaluates together."""
        return {name: value for name, value in setting.items() if name not in self.one_pass}

    def metric_of(self, setting: Mapping[str, Any]) -> str:
        """The name under which a run logs the figure of a setting."""
        if not self.one_pass:
            return self.metric
        name = self.one_pass[0]
        return f"{self.metric}/{name.rpartition('.')[2]}={setting[name]}"

    def sweep(self, folder: Path) -> SweepFile:
        """The sweep of its runs, written to a file in `folder`: setting after setting, fold after fold."""
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
        """Writes it into the sweep's folder."""
        (folder / "crossval.json").write_text(json.dumps(asdict(self), indent=1))


def read_plan(folder: Path) -> Plan:
    """The plan that `Plan.save` wrote.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    try:
        return Plan(**json.loads((folder / "crossval.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"{folder} is no cross-validation; give a folder such as logs/sweeps/crossval-softmax-…, or start anew."
        ) from None


def make_plan(arguments: list[str], folds: int, grid: Sequence[str]) -> Plan:
    """Checks what was typed, down to the command line of every run, and whether the images suffice for the folds.

    Args:
        arguments: what is typed after `fit`, --config included.
        folds: how many.
        grid: each NAME=VALUE,VALUE,….

    Raises:
        ValueError: anything that could not be carried out.
    """
    if folds < 2:
        raise UserError(f"--folds is {folds}; give at least 2.")
    names = [argument.partition("=")[0].removeprefix("--") for argument in arguments if argument.startswith("--")]
    for name in ("ckpt_path", *_OURS):
        if name in names:
            raise UserError(f"--{name} was given, but each fold's run has its own; leave it out.")
    values = _read_grid(grid)
    for name in values:
        if name in names:
            raise UserError(f"--{name} was given beside --grid {name}; give one of the two.")
    metric, goal, one_pass, topic = _look_at(arguments, folds)
    listed = [[f"model.{name}", f"model.{lists}"] for name, lists in one_pass.items() if f"model.{name}" in values]
    plan = Plan(topic, arguments, folds, values, metric, goal, listed[0] if listed else [])
    from pipelines.search.parameter_check import check_parameters

    with TemporaryDirectory() as folder:
        sweep = plan.sweep(Path(folder))
        try:
            check_parameters(sweep)
        except ValueError as error:
            raise UserError(str(error).removeprefix(f"{sweep.path}: ")) from None
    return plan


def _look_at(arguments: list[str], folds: int) -> tuple[str, Goal, dict[str, str], str]:
    """Builds the first run's model and data: its metric and goal, what it evaluates in one pass, and its topic.

    Raises:
        ValueError: settings that are refused, a metric that is not of the validation images, too few images.
    """
    from pipelines.run.build import build
    from pipelines.train import resolve

    resolved, topic = resolve(["fit", *arguments, "--data.num_folds", str(folds), "--data.fold", "0"])
    built = build(resolved, topic)
    checkpoint = built.config["fit"]["checkpoint"]
    if not str(checkpoint["monitor"]).startswith("val/"):
        raise UserError(
            f"checkpoint.monitor is {checkpoint['monitor']}; give a metric of the validation images, such as val/loss."
        )
    built.datamodule.setup("validate")  # reads the images, and cuts them
    goal = cast(Goal, f"{checkpoint['mode']}imize")
    return checkpoint["monitor"], goal, getattr(type(built.model), "one_pass_settings", {}), topic


def _read_grid(grid: Sequence[str]) -> dict[str, list[Any]]:
    """Values by dotted name, numbers also where YAML takes them for text, such as 1e-3."""
    found: dict[str, list[Any]] = {}
    for argument in grid:
        name, equals, text = argument.partition("=")
        name = name.removeprefix("--")
        if not name or not equals:
            raise UserError(f"--grid is {argument!r}; give NAME=VALUE,VALUE,…, such as optimizer.lr=1e-3,1e-2.")
        if name in found:
            raise UserError(f"--grid {name} was given twice; give all its values in one.")
        if name in _OURS:
            raise UserError(f"--grid {name} was given, but each fold's run has its own; leave it out.")
        try:
            values = [_number(value) for value in yaml.safe_load(f"[{text}]")]
        except yaml.YAMLError:
            values = []
        if not values or text.rstrip().endswith(","):
            raise UserError(f"--grid {name} has the values {text!r}; give one or more with a comma between two.")
        twice = [value for place, value in enumerate(values) if value in values[:place]]
        if twice:
            raise UserError(f"--grid {name} has the value {twice[0]} twice; give each once.")
        found[name] = values
    return found


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
