"""Sweep files: what is read, what is refused, and the check against the command line."""

from pathlib import Path

import pytest
import yaml

from pipelines.search.parameter_check import check_parameters
from pipelines.search.sweep_file import read_sweep
from tests.command_line import PROJECT

SWEEPS = sorted((PROJECT / "sweeps").glob("*.yaml"))
_GOOD = """
method: random
metric: {name: val/accuracy, goal: maximize}
run_cap: 3
command: [python, -m, pipelines.train, fit, --config, softmax, --config, "${args_json_file}"]
parameters:
  model.reg: {min: 0.1, max: 0.2}
"""


def _write(folder: Path, text: str) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(text)
    return file


@pytest.mark.usefixtures("forked_check")
@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_sweep_file_is_valid_and_the_command_line_knows_all_its_parameters(file: Path) -> None:
    """Its metric is the one by which the topic's checkpoints are chosen."""
    sweep = read_sweep(file)
    topic = sweep.command[sweep.command.index("--config") + 1]
    checkpoint = yaml.safe_load((PROJECT / "pipelines" / "configs" / f"{topic}.yaml").read_text())["checkpoint"]
    assert sweep.metric == checkpoint["monitor"]
    assert sweep.goal == {"max": "maximize", "min": "minimize"}[checkpoint["mode"]]
    check_parameters(sweep)


@pytest.mark.usefixtures("forked_check")
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model.regg": {"min": 0.1, "max": 0.2}}, "'regg'; did you mean reg"),
        ({"optimizer.lr": {"values": [0.1, "much"]}}, "much"),
        ({"trainer.max_epoch": {"value": 2}}, "max_epoch"),
    ],
)
def test_a_parameter_that_the_command_line_does_not_take_is_named(
    tmp_path: Path, parameters: dict[str, object], message: str
) -> None:
    content = {**yaml.safe_load(_GOOD), "parameters": parameters}
    with pytest.raises(ValueError, match=message):
        check_parameters(read_sweep(_write(tmp_path, yaml.safe_dump(content))))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method: random", "method: [", "not valid YAML"),
        ("method: random", "method: magic", "'magic' is unknown; give one of grid, random, bayes"),
        ("method: random", "", "there is no method"),
        ("method: random", "methods: random", "unknown key 'methods'; did you mean method"),
        ("goal: maximize", "goal: best", "goal is 'best'"),
        ("metric: {name: val/accuracy, goal: maximize}", "", "there is no metric"),
        ("run_cap: 3", "run_cap: 0", "run_cap is 0"),
        ("{min: 0.1, max: 0.2}", "{min: 0.3, max: 0.2}", "min must be smaller than max"),
        ("{min: 0.1, max: 0.2}", "{distribution: lognormal, mu: 1}", "unknown distribution 'lognormal'"),
        ("{min: 0.1, max: 0.2}", "{distribution: uniform, min: 1}", "but no max"),
        (
            "{min: 0.1, max: 0.2}",
            "{distribution: log_uniform_values, min: 0, max: 1}",
            "greater than 0 for log_uniform_values",
        ),
        ("{min: 0.1, max: 0.2}", "{min: 1e-4, max: 0.2}", "write 0.0001"),
        ("{min: 0.1, max: 0.2}", "{values: []}", "at least one value"),
        ("{min: 0.1, max: 0.2}", "{values: [1, 1]}", "with duplicates"),
        ("{min: 0.1, max: 0.2}", "{values: [1, 2], probabilities: [0.9, 0.2]}", "sum to 1"),
        ("{min: 0.1, max: 0.2}", "0.1", "value: 0.1"),
        ("method: random", "method: grid", "which a grid can't cover"),
        ("run_cap: 3", "early_terminate: {type: hyperband}", "neither min_iter nor"),
        ("run_cap: 3", "early_terminate: {type: median}", "type hyperband"),
    ],
)
def test_a_mistake_in_the_file_is_explained_in_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in _GOOD
    with pytest.raises(ValueError, match=r"sweep\.yaml") as error:
        read_sweep(_write(tmp_path, _GOOD.replace(old, new)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("forked_check")
def test_relative_paths_in_the_command_start_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text((PROJECT / "pipelines" / "configs" / "softmax.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    sweep = read_sweep(_write(tmp_path, _GOOD.replace("--config, softmax", "--config, mine.yaml")))
    check_parameters(sweep)


def test_nested_parameters_are_searched_by_dotted_name_and_passed_nested(tmp_path: Path) -> None:
    nested = "  model: {parameters: {reg: {values: [1, 2]}, margin: {value: 1.5}}}\n  optimizer.lr: {value: 0.1}\n"
    sweep = read_sweep(_write(tmp_path, _GOOD.partition("  model.reg")[0] + nested))
    assert list(sweep.parameters) == ["model.reg", "model.margin", "optimizer.lr"]
    assert sweep.size == 2
    values = {"model.reg": 2, "model.margin": 1.5, "optimizer.lr": 0.1}
    assert sweep.nested(values) == {"model": {"reg": 2, "margin": 1.5}, "optimizer.lr": 0.1}
