"""A run that has reached its end says so when it is resumed; a longer one continues exactly."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, Timer

from pipelines.checkpoints.already_finished import already_finished, longer
from tests.command_line import run_pipeline
from tests.helpers import figures, numbers, only_run, trainer_of, weights

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.crop_padding", "1", "--data.batch_size", "64",
    "--trainer.callbacks", "null", "--lr_scheduler", "null",
]  # fmt: skip


@pytest.mark.slow
def test_a_finished_run_says_so_and_stays_as_it_was(tmp_path: Path) -> None:
    assert run_pipeline("train", [*FIT, "--trainer.max_epochs", "2"], tmp_path).code == 0
    run = only_run(tmp_path)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for settings in ([], ["--trainer.max_epochs", "1"], ["--optimizer.lr", "1e-4"]):
        again = run_pipeline("train", ["fit", "--ckpt_path", str(run), *settings], tmp_path)
        assert again.code == 0, again.err
        epochs = settings[1] if "--trainer.max_epochs" in settings else "2"
        assert again.out.startswith(f"already finished: it has 2 epochs, and trainer.max_epochs is {epochs}; ")
        assert f"python -m pipelines.train fit --ckpt_path logs/softmax/{run.name} --trainer.max_epochs" in again.out
        assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_run_that_max_steps_ended_is_trained_longer_as_if_it_had_not_ended(tmp_path: Path) -> None:
    """It ends in the middle of an epoch of 20 steps."""
    folders = tmp_path / "whole", tmp_path / "parts"
    for folder, steps in zip(folders, ("50", "30"), strict=True):
        folder.mkdir()
        arguments = [*FIT, "--trainer.max_epochs", "-1", "--trainer.max_steps", steps]
        finished = run_pipeline("train", arguments, folder)
        assert finished.code == 0, finished.err
    whole, parts = (only_run(folder) for folder in folders)
    assert f"--ckpt_path logs/softmax/{parts.name} --trainer.max_steps 60" in finished.out
    again = run_pipeline("train", ["fit", "--ckpt_path", str(parts)], folders[1])
    assert again.out.startswith("already finished: it has 30 steps, and trainer.max_steps is 30; train it longer with")
    more = run_pipeline("train", ["fit", "--ckpt_path", str(parts), "--trainer.max_steps", "50"], folders[1])
    assert more.code == 0, more.err
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(parts)[name]), name
    assert figures(parts, "val/loss")[-1:] == figures(whole, "val/loss")[-1:]


def test_a_run_that_stopped_early_goes_on_with_more_patience_only(tmp_path: Path) -> None:
    stop = "{class_path: EarlyStopping, init_args: {monitor: val/accuracy, mode: max, min_delta: 1, patience: 2}}"
    finished = run_pipeline("train", [*FIT, "--trainer.max_epochs", "9", f"--trainer.callbacks=[{stop}]"], tmp_path)
    assert finished.code == 0, finished.err
    assert "train it longer    with a larger patience of EarlyStopping in config.yaml" in finished.out
    run = only_run(tmp_path)
    again = run_pipeline("train", ["fit", "--ckpt_path", str(run), "--trainer.max_epochs", "20"], tmp_path)
    assert again.out.startswith(
        "already finished: EarlyStopping ended it (val/accuracy did not improve 2 times, patience 2); train it longer "
        "with a larger patience in its config.yaml, or without EarlyStopping\n"
    )
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("patience: 2", "patience: 4"))
    more = run_pipeline("train", ["fit", "--ckpt_path", str(run)], tmp_path)
    assert more.code == 0, more.err
    assert [row["epoch"] for row in numbers(run) if "val/accuracy" in row] == [0, 1, 2, 3, 4]


def checkpoint(**callbacks: Any) -> dict[str, Any]:
    progress = {"current": {"processed": 3}}
    return {"loops": {"fit_loop": {"epoch_progress": progress}}, "global_step": 30, "callbacks": callbacks}


def test_the_bound_that_ended_a_run_is_named_and_doubled(tmp_path: Path) -> None:
    timer = {"time_elapsed": {"train": 3600.4}}
    for settings, stored, reason, more in (
        ({"max_epochs": 3}, checkpoint(), "it has 3 epochs", "--trainer.max_epochs 6"),
        ({"max_epochs": 4}, checkpoint(), None, "--trainer.max_epochs 8"),
        ({"max_epochs": -1}, checkpoint(), None, None),
        ({"max_steps": 30}, checkpoint(), "it has 30 steps", "--trainer.max_steps 60"),
        ({"max_steps": 30, "max_epochs": 9}, checkpoint(), "it", "--trainer.max_epochs 18 --trainer.max_steps 60"),
        (
            {"max_time": "00:01:00:00", "max_epochs": -1}, checkpoint(Timer=timer), "it has trained for 1:00:00, and",
            "--trainer.max_time 00:02:00:00",
        ),
        (
            {"max_time": timedelta(days=1), "max_epochs": -1}, checkpoint(Timer=timer), None,
            "--trainer.max_time 02:00:00:00",
        ),
    ):  # fmt: skip
        trainer = trainer_of(tmp_path, **settings)
        found = already_finished(stored, trainer)
        assert found is None if reason is None else (found or "").startswith(reason), (settings, found)
        assert longer(trainer) == more
    assert [type(callback) for callback in trainer.callbacks] == [Timer]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("patience", "ended"), [(2, True), (3, True), (4, False)])
def test_early_stopping_is_judged_by_the_patience_given(patience: int, ended: bool, tmp_path: Path) -> None:
    stopping = EarlyStopping("val/loss", patience=patience)
    state: dict[str, Any] = {"wait_count": 3, "stopping_reason": 3, "stopping_reason_message": "…"}
    stored = checkpoint(**{stopping.state_key: state})
    assert (already_finished(stored, trainer_of(tmp_path, stopping, max_epochs=9)) is not None) == ended
    assert already_finished(stored, trainer_of(tmp_path, max_epochs=9)) is None
