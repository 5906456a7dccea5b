"""Sweep files: what is read, what is refused, and the check against the command line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from pipelines.search.parameter_check import _metric_error, check_parameters
from pipelines.search.sweep_command import check_command
from pipelines.search.sweep_file import read_sweep
from pipelines.sweep import main
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
        # Each command line's own value is compared with the data, not that of the first.
        (
            {"model.num_classes": {"values": [10, 7]}, "data": {"value": "Digits"}},
            r"--model.num_classes is 7, but that of Digits is 10; leave it out",
        ),
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
        ("run_cap: 3", "run_cap: 3\nrun_cap: 4", "has the key 'run_cap' twice, in lines "),
        ("run_cap: 3", "run_cap: 3\nparameters: {}", "has the key 'parameters' twice, in lines "),
        ("{min: 0.1, max: 0.2}", "{min: 0.1, min: 0.15, max: 0.2}", "has the key 'min' twice, both in line "),
        (
            "{min: 0.1, max: 0.2}",
            "{values: [010, 020]}",
            ".values is 20, which W&B reads as 16; write 16, or quote text",
        ),
        ("{min: 0.1, max: 0.2}", "{values: [1:30]}", ".values is 1:30, which W&B reads as 90; write 90, or quote text"),
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


_TRAIN = ["${env}", "python", "-m", "pipelines.train", "fit", "--config", "softmax", "--data", "Digits"]


def _refused(folder: Path, **content: Any) -> str:
    """The sentence with which a sweep file is refused that differs from the good one."""
    full = {**yaml.safe_load(_GOOD), **content}
    file = _write(folder, yaml.safe_dump({key: value for key, value in full.items() if value is not None}))
    with pytest.raises(UserError) as error:
        check_parameters(read_sweep(file))
    message = str(error.value).removeprefix(f"{file}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"method": "Random"}, "the method 'Random' is unknown; did you mean random?"),
        ({"method": "bayesian"}, "did you mean bayes?"),
        ({"method": ["grid"]}, "the method ['grid'] is unknown"),
        ({"metric": "val/accuracy"}, "write metric: {name: val/accuracy, goal: maximize}"),
        ({"metric": [{"name": "val/loss"}]}, "write metric: {name: val/accuracy, goal: maximize}"),
        ({"metric": {"name": "val/accuracy"}}, "has no goal, and W&B would minimize it; give goal: maximize"),
        ({"metric": {"name": "val/accuracy", "goals": "maximize"}}, "unknown key 'goals'; did you mean goal?"),
        ({"metric": {"name": "val/accuracy", "goal": "max"}}, "goal is 'max'; did you mean maximize?"),
        ({"metric": {"name": "val/accuracy", "goal": "Minimise"}}, "goal is 'Minimise'; did you mean minimize?"),
        ({"metric": {"name": "val/accuracy", "goal": "maximize", "target": "0.9%"}}, "target is '0.9%'"),
        ({"run_cap": "10"}, "run_cap is '10'; it must be a whole number"),
        ({"run_cap": 10.5}, "run_cap is 10.5"),
        ({"run_cap": True}, "run_cap is True"),
        ({"early_terminate": "hyperband"}, "write early_terminate: {type: hyperband, min_iter: 3}"),
        ({"early_terminate": {"type": "hyperband", "min_iters": 3}}, "has the unknown key 'min_iters'"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 9, "max_iter": 3}}, "must be greater than min_iter"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 27}}, "neither min_iter nor both max_iter and s"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 1}}, "has eta 1; it must be at least 2"),
        ({"parameters": [{"name": "x"}]}, "the file has no parameters; give at least one by its name"),
        ({"parameters": {"on": {"value": 1}, True: {"value": 2}}}, "True has a name that YAML reads as a bool"),
        (
            {"parameters": {" x": {"value": 1}}},
            "parameter ' x' has a name that is empty or begins or ends with a space",
        ),
        ({"parameters": {"x": {"parameters": {"": {"value": 1}}}}}, "parameter 'x.' has a name that is empty"),
        ({"parameters": {"x": None}}, "parameter x is null; write value: null"),
        ({"project": ["mine"]}, "project is ['mine']; it must be text"),
        ({"parameters": {"--model.reg": {"value": 1}}}, "begins with a hyphen; write model.reg, without"),
        ({"parameters": {"model.reg": [0.1, 0.2]}}, "model.reg is [0.1, 0.2]; write values: [0.1, 0.2]"),
        ({"parameters": {"model": {"parameters": None}}}, "parameter model has no parameters"),
        ({"parameters": {"m": {"parameters": {"a": {"value": 1}}, "value": 2}}}, "has parameters and value; give only"),
        ({"command": None}, "neither a command nor a program"),
        ({"command": "python -m x ${args}"}, 'give a list of words: ["python", "-m", "x", "${args}"]'),
        ({"command": ["python", None]}, "the command has None, which YAML does not read as text"),
        ({"command": ["python", {"--config": "x"}]}, "the command has {'--config': 'x'}, which YAML does not"),
        ({"command": ["python", "${program}", "${args}"]}, "has ${program}, but there is no program; give one"),
        ({"command": ["python", "-m pipelines.train", "${args}"]}, "as one word; give -m, pipelines.train as words"),
        ({"command": ["python", "--config=${args_json_file}"]}, "${args_json_file} must be a word of its own"),
        ({"command": ["python", "{args}"]}, "the command has {args}, which is not a macro; write ${args} in quotes"),
        ({"command": ["python", "$args"]}, "write ${args} in quotes"),
        ({"command": ["python", "${arguments}"]}, "unknown macro ${arguments}; use one of ${env}, ${interpreter}"),
        ({"command": ["python", "${HOME}", "${args}"]}, "an environment variable is ${envvar:HOME}"),
        ({"command": ["python", "--data.root=$HOME/data", "${args}"]}, "no shell replaces; write ${envvar:HOME}"),
        ({"command": ["python", "-m", "x", "${envvar:NOWHERE}"]}, "there is no such environment variable; set it"),
        ({"command": ["python", "-m", "x"]}, "the command has no ${args}, so a trial would not get its values"),
        ({"command": ["pyhton", "x.py", "${args}"]}, "starts pyhton, which is not installed here"),
        ({"command": None, "program": "train.py"}, "the program train.py is not in"),
        (
            {"parameters": {"config": {"values": ["a.yaml"]}}},
            "parameter config can't be in the file of ${args_json_file}",
        ),
        ({"command": [*_TRAIN, "${args_json_file}"]}, "${args_json_file} without --config; write --config before it"),
    ],
)
def test_what_would_fail_in_every_trial_is_said_before_the_first(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    assert message in _refused(tmp_path, **content)


@pytest.mark.parametrize("macro", ["args", "args_no_equals", "args_no_boolean_flags"])
def test_null_in_a_list_needs_the_file_of_values(tmp_path: Path, macro: str) -> None:
    value = {"value": {"a": [1, None]}}
    message = _refused(tmp_path, command=[*_TRAIN, f"${{{macro}}}"], parameters={"data.subset": value})
    assert message == (
        f"parameter data.subset has a list with null, which ${{{macro}}} passes on as the word None; end the command "
        'with --config, "${args_json_file}".'
    )


def test_false_is_left_out_by_the_macro_without_boolean_flags(tmp_path: Path) -> None:
    command = [*_TRAIN, "${args_no_boolean_flags}"]
    message = _refused(tmp_path, command=command, parameters={"data.flip": {"value": False}})
    assert "data.flip has the value false, which ${args_no_boolean_flags} leaves out" in message


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["${env}", "python3", "${program}", "${args}"], ["${env}", "python3", "pipelines/train.py", "${args}"]),
        (["${env}", "CUDA_VISIBLE_DEVICES=0", "python", "-u", "${program}", "fit", "${args}"], None),
        (["${env}", "${interpreter}", "${program}", "--trainer.max_epochs", 5, "${args_no_hyphens}"], None),
        (["python", "-c", "import sys; print(sys.argv)", "${args_json}"], None),
        (["bash", "-c", "$HOME/x ${envvar:HOME}", "${args}"], None),
        (["python", "-m", "pipelines.train", "fit", "--data.root=$HOME/data", "${args}"], None),
    ],
)
def test_the_forms_of_commands_on_wandb_s_pages_are_read(
    tmp_path: Path, command: list[Any], words: list[str] | None
) -> None:
    content = {**yaml.safe_load(_GOOD), "program": "pipelines/train.py", "command": command}
    sweep = read_sweep(_write(tmp_path, yaml.safe_dump(content)))
    expected = ["pipelines/train.py" if word == "${program}" else str(word) for word in command]
    assert list(sweep.command) == (words or expected)
    check_command(sweep.command, {})


def test_early_termination_has_w_and_b_s_brackets(tmp_path: Path) -> None:
    for content, expected in (
        ({"min_iter": 3}, (3, 3, None)),
        ({"min_iter": 3, "eta": 2, "strict": True}, (3, 2, None)),
        ({"max_iter": 27, "s": 2}, (3, 3, 27)),  # brackets at 3 and 9
        ({"max_iter": 32, "s": 3, "eta": 2}, (4, 2, 32)),
    ):
        early = {"type": "hyperband", **content}
        sweep = read_sweep(_write(tmp_path, yaml.safe_dump({**yaml.safe_load(_GOOD), "early_terminate": early})))
        read = sweep.early_terminate
        assert read is not None and (read.first, read.eta, read.last) == expected
        assert read.compares(26) and read.compares(40) == (read.last is None)


@pytest.mark.usefixtures("forked_check")
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"data.batch_size": {"distribution": "q_uniform", "min": 16, "max": 256, "q": 64}},
            "batch_size is 0; it must",
        ),
        ({"model.reg": {"values": [0.1, -1]}}, "reg is -1.0; it must be ≥ 0"),
        ({"optimizer.lr": {"values": [0.1, -1.0]}}, "Invalid learning rate: -1.0"),
        ({"lr": {"values": [0.1, 1.0]}}, "unknown key 'lr'; the learning rate is optimizer.lr."),
    ],
)
def test_a_value_that_every_run_would_refuse_is_found(tmp_path: Path, parameters: dict[str, Any], message: str) -> None:
    assert message in _refused(tmp_path, parameters=parameters)


@pytest.mark.usefixtures("forked_check")
@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({"name": "val/accuracy", "goal": "minimize"}, "but the best checkpoint is that of the maximum val/accuracy"),
        ({"name": "val_accuracy", "goal": "maximize"}, "no run logs the metric 'val_accuracy'; did you mean val/acc"),
        ({"name": "val/acc", "goal": "maximize"}, "did you mean val/accuracy?"),
    ],
)
def test_a_metric_that_is_meant_otherwise_is_named(tmp_path: Path, metric: dict[str, str], message: str) -> None:
    assert message in _refused(tmp_path, metric=metric)


def test_other_metrics_are_the_user_s_own_business(tmp_path: Path) -> None:
    for name, goal in (
        ("val/loss", "minimize"),
        ("train/accuracy", "maximize"),
        ("acc", "maximize"),
        ("fid", "minimize"),
    ):
        content = {**yaml.safe_load(_GOOD), "metric": {"name": name, "goal": goal}}
        sweep = read_sweep(_write(tmp_path, yaml.safe_dump(content)))
        assert _metric_error(sweep, "val/accuracy", "max") is None
        assert _metric_error(sweep, None, "min") is None


@pytest.mark.usefixtures("forked_check")
def test_check_says_what_would_be_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(_write(tmp_path, _GOOD))])
    out = capsys.readouterr().out
    assert out.endswith("random search over model.reg; infinitely many points, of which at most 3 are tried\n")
    assert not list(tmp_path.glob("logs"))
