"""Ids of runs: W&B's forbidden characters are an error in an id of the user, and replaced in that of a file."""

import shutil
from pathlib import Path

import pytest
from wandb import Settings

from pipelines.run.run_folder import RunFolder
from pipelines.tracking.run_id import id_stem, wandb_run_id
from tests.command_line import run_pipeline
from tests.helpers import only_run

_FIT = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.callbacks", "null"]
_NAMES = [
    "lr 0.1, reg 0",
    "my#sweep",
    "bob's",
    "a:b;c?d",
    " spaces ",
    "größe",
    "[0.1]",
    "日本",
    "a" * 300,
    "...",
    "a\\b",
]


@pytest.mark.parametrize("name", _NAMES)
def test_wandb_takes_the_id_made_of_any_name(name: str) -> None:
    for run_id in (wandb_run_id(name), f"{id_stem(name)}-20260101-000000-abcd-0001"):
        assert Settings(run_id=run_id).run_id == run_id and len(run_id) <= 128 and "\\" not in run_id
    assert len(id_stem(name).encode()) <= 200 and id_stem(name).strip("-.")


def test_names_that_wandb_takes_stay_as_they_are() -> None:
    for name in ("20260101-000000-abcd", "lr 0.1", "fast_convnet.2", "größe", "[0.1]"):
        assert wandb_run_id(name) == name
    assert [id_stem(name) for name in ("caption_rnn", "v1.2-x")] == ["caption_rnn", "v1.2-x"]


@pytest.mark.parametrize(
    ("run_id", "problem"),
    [
        ("bob's", '''"bob's", which contains "'"'''),
        ("lr,reg", "which contains ','"),
        ("../../evil", "which contains '/'"),
        ("/tmp/evil", "which contains '/'"),
        ("..", "which has no letter or digit"),
        ("  ", "which has no letter or digit"),
        (" a", "which begins or ends with a space"),
        ("a\tb", "which contains '\\t'"),
        ("a" * 200, "which has 200 characters, more than 128"),
    ],
)
def test_a_chosen_id_that_can_t_be_one_is_refused(run_id: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", run_id)
    with pytest.raises(ValueError, match=r"^WANDB_RUN_ID is .*; use letters, digits, .* or unset it") as error:
        RunFolder.new("softmax")
    assert problem in str(error.value)


def test_the_sentence_comes_before_anything_is_written(tmp_path: Path) -> None:
    finished = run_pipeline("train", _FIT, tmp_path, WANDB_RUN_ID="bob's", WANDB_MODE="offline")
    assert finished.code == 2 and finished.err.startswith("error: WANDB_RUN_ID is") and finished.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_renamed_run_is_resumed(tmp_path: Path) -> None:
    assert run_pipeline("train", _FIT, tmp_path, WANDB_MODE="offline").code == 0
    run = only_run(tmp_path)
    renamed = run.rename(run.with_name("lr 0.1, reg 0"))
    shutil.rmtree(renamed / "wandb")
    again = ["fit", "--ckpt_path", str(renamed), "--trainer.max_epochs", "2"]
    finished = run_pipeline("train", again, tmp_path, WANDB_MODE="offline")
    assert finished.code == 0, finished.err
    assert only_run(tmp_path) == renamed
    (tracked,) = (renamed / "wandb").glob("offline-run-*")
    assert tracked.name.endswith("-lr 0.1- reg 0")
