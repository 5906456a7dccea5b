from pathlib import Path
from typing import Any

import pytest
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from pipelines.trials.trial_command import trial_command

_VALUES = {"model.reg": 0.1, "data.flip": False, "x": None, "name": "a b", "on": True, "optimizer": {"lr": 0.1}}


_MACROS = "args args_no_hyphens args_no_equals args_no_boolean_flags args_json args_append_hydra args_override_hydra"


@pytest.mark.parametrize("macro", _MACROS.split())
def test_macros_are_what_the_wandb_agent_makes_of_them(tmp_path: Path, macro: str) -> None:
    wandb: Any = create_sweep_command_args({"args": {name: {"value": value} for name, value in _VALUES.items()}})
    assert trial_command((f"${{{macro}}}",), _VALUES, tmp_path / "x.json") == wandb[macro]


def test_the_file_macro_writes_what_the_json_macro_says(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    command = trial_command(("${env}", "python", "${args_json_file}"), _VALUES, file)
    assert command == ["/usr/bin/env", "python", str(file)]
    assert [file.read_text()] == trial_command(("${args_json}",), _VALUES, file)


def test_environment_variables_as_wandb_fills_them_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "here")
    template = ["a-${envvar:WHERE}-b", "${envvar:NOWHERE}"]
    ours = trial_command(tuple(template), {}, tmp_path / "x.json")
    assert ours == create_sweep_command(list(template)) == ["a-here-b", "NOWHERE"]


def test_an_unknown_macro_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\$\{arguments\}"):
        trial_command(("${arguments}",), {}, tmp_path / "x.json")
