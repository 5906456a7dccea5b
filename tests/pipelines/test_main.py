"""`l231n`, `python pipelines/train.py` and a sweep's `program` start what `python -m pipelines.NAME` starts."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pipelines.__main__ import COMMANDS, main
from pipelines.search.parameter_check import check_parameters
from pipelines.search.sweep_file import read_sweep
from pipelines.train import SUBCOMMANDS
from pipelines.trials.trial_command import train_arguments
from tests.command_line import PROJECT

SWEEP = """
program: pipelines/train.py
method: grid
metric: {name: val/accuracy, goal: maximize}
parameters:
  config: {value: softmax}
  data: {value: Digits}
  optimizer.lr: {values: [0.001, %s]}
"""


def test_help_has_a_line_for_every_command_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    named = {line.split()[0] for line in lines if line.startswith("  ")}
    files = {file.stem for file in (PROJECT / "pipelines").glob("*.py")} - {"__init__", "__main__", "train"}
    assert named == files | set(SUBCOMMANDS) and set(COMMANDS) == files


def test_an_unknown_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["swep"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: There is no command 'swep'; did you mean sweep?\n"


def test_each_command_gets_the_arguments_after_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "list"])
    assert "cifar10" in capsys.readouterr().out
    main(["score-captions", "--help"])
    assert "python -m pipelines.score_captions" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", "softmaxx"])
    assert ended.value.code == 2 and "did you mean softmax?" in capsys.readouterr().err


def test_the_package_installs_the_command() -> None:
    (script,) = entry_points(group="console_scripts", name="l231n")
    assert script.load() is main


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (["/usr/bin/env", "python", "-m", "pipelines.train", "fit", "--a=1"], ["fit", "--a=1"]),
        (["/usr/bin/env", "python", "pipelines/train.py", "--a=1"], ["--a=1"]),
        (["python", "/somewhere/pipelines/train.py", "fit"], ["fit"]),
        (["l231n", "fit", "--a=1"], ["fit", "--a=1"]),
        (["/venv/bin/l231n", "fit"], ["fit"]),
        (["python", "train.py", "--a=1"], None),
    ],
)
def test_what_a_command_hands_to_train(command: list[str], arguments: list[str] | None) -> None:
    assert train_arguments(command) == arguments


@pytest.mark.usefixtures("forked_check")
def test_a_sweep_with_a_program_is_checked_like_one_with_a_command(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP % "0.1")
    check_parameters(read_sweep(file))
    file.write_text(SWEEP % "fast")
    with pytest.raises(ValueError, match="fast"):
        check_parameters(read_sweep(file))


@pytest.mark.slow
def test_the_file_itself_can_be_run_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "pipelines" / "train.py"), "--config", "softmax", "--print_config"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0 and "class_path: modules.SoftmaxRegression" in finished.stdout, finished.stderr
