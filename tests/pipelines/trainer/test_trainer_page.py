"""docs/trainer.md names every argument and callback that Lightning has, and each line does what the page says."""

import inspect
import re
import shlex
from pathlib import Path

import pytest
from lightning.pytorch import Trainer, callbacks

from tests.command_line import run_pipeline

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "trainer.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| `([^`]+)` \| (\w+) \|", re.M)
ARGUMENTS, CALLBACKS = (ROW.findall(part) for part in PAGE.split("## Callbacks"))
BASE = ["fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--data.batch_size", "32"]


def test_every_argument_of_the_trainer_is_on_the_page() -> None:
    assert {name for name, *_ in ARGUMENTS} == set(inspect.signature(Trainer).parameters)


def test_every_callback_of_lightning_is_on_the_page() -> None:
    assert {name for name, *_ in CALLBACKS} == set(callbacks.__all__)


def test_every_row_is_read() -> None:
    assert len(ARGUMENTS) + len(CALLBACKS) == PAGE.count("\n| `")
    assert {outcome for *_, outcome in ARGUMENTS + CALLBACKS} == {"works", "refused", "needs"}
    assert " ".join(BASE) in PAGE


@pytest.mark.slow
@pytest.mark.parametrize(("name", "typed", "outcome"), ARGUMENTS + CALLBACKS)
def test_each_line_of_the_page(tmp_path: Path, name: str, typed: str, outcome: str) -> None:
    arguments = [*BASE, "--trainer.max_epochs", "1", *shlex.split(typed)]
    if "callbacks+=" not in typed:
        arguments += ["--trainer.callbacks", "null"]
    finished = run_pipeline("train", arguments, tmp_path)
    if outcome == "needs" and finished.code == 0:
        return  # this machine has it
    assert finished.code == (0 if outcome == "works" else 2), finished.err
    if outcome == "works":
        assert "Traceback" not in finished.err
    else:
        assert finished.err.startswith("error: ") and finished.err.count("\n") == 1
        assert not list(tmp_path.rglob("*.ckpt")) or name == "EarlyStopping"  # refused after the first epoch
