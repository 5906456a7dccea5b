"""Settings given on resume are used and recorded, or refused before anything is written."""

import shutil
from math import cos, pi
from pathlib import Path

import pytest
import torch
import yaml

from pipelines.checkpoints.recorded_settings import changes, check_changes, parse_settings
from pipelines.run.run_messages import print_unbounded
from tests.command_line import Finished, run_pipeline
from tests.helpers import figures, only_run

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--data.batch_size", "64",
    "--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", "8", "--optimizer.lr", "0.1",
    "--trainer.callbacks", "[TrainingHealth]", "--trainer.max_epochs", "2",
    "--trainer.log_every_n_steps", "20",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    finished = run_pipeline("train", FIT, folder)
    assert finished.code == 0, finished.err
    return only_run(folder)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "logs" / "softmax" / "copy"))


def resume(run: Path, *settings: str) -> Finished:
    return run_pipeline("train", ["fit", "--ckpt_path", str(run), *settings], run.parents[2])


def contents(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in run.rglob("*") if file.is_file()}


def test_a_new_learning_rate_is_used_recorded_and_said(run: Path) -> None:
    finished = resume(run, "--trainer.max_epochs", "3", "--optimizer.lr", "1e-3", "--lr_scheduler.T_max", "4")
    assert finished.code == 0, finished.err
    assert "changed: trainer.max_epochs 2 → 3, optimizer.lr 0.1 → 0.001, lr_scheduler.T_max 8 → 4\n" in finished.out
    assert figures(run, "health/lr")[-1] == pytest.approx(1e-3 * 0.5 * (1 + cos(pi * 2 / 4)))
    recorded = yaml.safe_load((run / "config.yaml").read_text())
    assert recorded["optimizer"]["init_args"]["lr"] == 1e-3
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert parse_settings(stored["callbacks"]["RecordedSettings"]["config"])["optimizer.lr"] == 1e-3


def test_another_optimizer_starts_anew(run: Path) -> None:
    finished = resume(run, "--trainer.max_epochs", "3", "--optimizer", "AdamW", "--optimizer.lr", "1e-3")
    assert finished.code == 0, finished.err
    assert (
        "optimizer: AdamW starts from its initial state, because the checkpoint has the state of another optimizer\n"
        in finished.out
    )
    again = resume(run, "--trainer.max_epochs", "4")
    assert again.code == 0, again.err


def test_a_rate_edited_in_config_yaml_is_used(run: Path) -> None:
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("    lr: 0.1\n", "    lr: 0.001\n"))
    finished = resume(run, "--trainer.max_epochs", "3")
    assert finished.code == 0, finished.err
    assert "optimizer.lr 0.1 → 0.001" in finished.out
    assert figures(run, "health/lr")[-1] == pytest.approx(1e-3 * 0.5 * (1 + cos(pi * 2 / 8)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["--seed_everything", "1"], "seed_everything is 1, but the run was trained with 0 and can't be resumed with"),
        (["--data", "Shapes"], "data is Shapes, but the run was trained with Digits and can't be resumed with another"),
        (["--data.val_fraction", "0.2"], "data.val_fraction is 0.2, but the run was trained with 0.1"),
        (["--data.split_seed", "3"], "images that it was trained on could become validation images"),
        (["--data.preprocessing", "scale"], "data.preprocessing is scale, but the run was trained with standardize"),
        (["--model", "LinearSVM"], "model is LinearSVM, but the run was trained with SoftmaxRegression"),
        (["--config", "svm"], "model is LinearSVM, but the run was trained with SoftmaxRegression"),
    ],
)
def test_a_setting_that_a_resumed_run_cant_follow_is_refused(settings: list[str], sentence: str, run: Path) -> None:
    before = contents(run)
    finished = resume(run, "--trainer.max_epochs", "3", *settings)
    assert finished.code == 2 and sentence in finished.err and finished.err.count("\n") == 1, finished.err
    assert contents(run) == before


def test_a_config_that_lost_a_section_is_refused_unless_it_is_given(run: Path) -> None:
    file = run / "config.yaml"
    config = yaml.safe_load(file.read_text())
    del config["trainer"]
    file.write_text(yaml.safe_dump(config))
    before = contents(run)
    finished = resume(run)
    assert finished.code == 2, finished.out
    assert f"{file} is incomplete: the run was trained with trainer." in finished.err
    assert contents(run) == before


def test_the_length_of_an_epoch_changes_between_epochs_only() -> None:
    changed = changes({"data.batch_size": 64, "trainer.devices": 1}, {"data.batch_size": 32, "trainer.devices": 1})
    assert changed == {"data.batch_size": (64, 32)}
    check_changes(changed, mid_epoch=False)
    with pytest.raises(ValueError, match=r"data\.batch_size is 32, but the checkpoint is in the middle of an epoch"):
        check_changes(changed, mid_epoch=True)


def test_another_batch_size_is_used_from_the_next_epoch_on(run: Path) -> None:
    finished = resume(run, "--trainer.max_epochs", "3", "--data.batch_size", "32")
    assert finished.code == 0, finished.err
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 2 * (1293 // 64) + 1293 // 32


def test_a_run_whose_configuration_lost_its_length_says_how_long_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    bounds = {"max_epochs": None, "max_steps": -1, "max_time": None, "fast_dev_run": False}
    print_unbounded(bounds)
    said = "length: no trainer.max_epochs, max_steps or max_time is set, so the run has Lightning's 1,000 epochs\n"
    assert capsys.readouterr().out == said
    for name, value in (
        ("max_epochs", 3),
        ("max_epochs", -1),
        ("max_steps", 9),
        ("max_time", "1"),
        ("fast_dev_run", 2),
    ):
        print_unbounded({**bounds, name: value})
        assert capsys.readouterr().out == ""


def test_a_folder_for_checkpoints_elsewhere_is_refused(tmp_path: Path) -> None:
    finished = run_pipeline("train", [*FIT, "--checkpoint.dirpath", "elsewhere"], tmp_path)
    assert finished.code == 2
    assert "checkpoint.dirpath is elsewhere, but a run keeps its checkpoints in its own folder; leave" in finished.err
    assert not list(tmp_path.iterdir())


def test_a_model_whose_settings_were_lost_is_not_tested_or_exported_as_another(run: Path) -> None:
    file = run / "config.yaml"
    lines = file.read_text().splitlines(keepends=True)
    (lost,) = [line for line in lines if line.startswith("    reg:")]
    file.write_text("".join(line for line in lines if line != lost))
    sentence = f"{file} is incomplete: the run was trained with model.reg 0.01, which it lacks; write it back, or set"
    tested = run_pipeline("train", ["test", "--ckpt_path", str(run)], run.parents[2])
    exported = run_pipeline("export", [str(run), "--format", "safetensors"], run.parents[2])
    assert tested.code == exported.code == 2
    assert sentence in tested.err and sentence in exported.err
    assert run_pipeline("train", ["test", "--ckpt_path", str(run), "--model.reg", "0.01"], run.parents[2]).code == 0
