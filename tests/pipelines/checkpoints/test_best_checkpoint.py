"""best.ckpt is the best checkpoint by the metric, whatever the settings of `--checkpoint` are."""

from pathlib import Path

import pytest
import torch

from tests.command_line import Finished, run_pipeline
from tests.helpers import numbers, only_run

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--data.batch_size", "32",
    "--trainer.callbacks", "null", "--lr_scheduler", "null", "--optimizer.lr", "0.5", "--trainer.max_epochs", "4",
]  # fmt: skip


def fit(folder: Path, *settings: str, code: int = 0) -> Finished:
    finished = run_pipeline("train", [*FIT, *settings], folder)
    assert finished.code == code, finished.err
    return finished


def steps(run: Path) -> dict[str, int]:
    """Returns the step of each checkpoint of a run."""
    files = (run / "checkpoints").glob("*.ckpt")
    return {file.stem: torch.load(file, weights_only=True)["global_step"] for file in files}


def best_step(run: Path, metric: str = "val/accuracy", sign: int = 1, every: int = 1) -> int:
    """Returns the step after which a metric of metrics.csv was the best, of every `every`-th epoch."""
    measured = [row for row in numbers(run) if metric in row][every - 1 :: every]
    return int(max(measured, key=lambda row: sign * row[metric])["step"]) + 1


def test_several_checkpoints_are_kept_and_the_best_is_best_ckpt(tmp_path: Path) -> None:
    finished = fit(tmp_path, "--checkpoint.save_top_k", "2")
    run = only_run(tmp_path)
    found = steps(run)
    assert len(found) == 4 and found.pop("last") == 160
    assert found.pop("best") == best_step(run) in found.values()
    accuracies = sorted((row["val/accuracy"] for row in numbers(run) if "val/accuracy" in row), reverse=True)
    scores = {int(row["step"]) + 1: row["val/accuracy"] for row in numbers(run) if "val/accuracy" in row}
    assert sorted((scores[step] for step in found.values()), reverse=True) == accuracies[:2]
    assert f"best val/accuracy  {accuracies[0]:.4f}" in finished.out


def test_all_checkpoints_are_kept_by_names_with_the_metric(tmp_path: Path) -> None:
    fit(tmp_path, "--checkpoint.save_top_k", "-1", "--checkpoint.filename", "{epoch}-{val/accuracy:.2f}")
    run = only_run(tmp_path)
    found = steps(run)
    assert found.pop("best") == best_step(run) and found.pop("last") == 160
    assert [name.split("-")[0] for name in sorted(found)] == [f"epoch={epoch}" for epoch in range(4)]
    assert all("-val_accuracy=0." in name for name in found)


@pytest.mark.parametrize(
    ("settings", "metric", "sign", "every"),
    [
        (["--checkpoint.monitor", "val/loss", "--checkpoint.mode", "min"], "val/loss", -1, 1),
        (["--checkpoint.every_n_epochs", "2"], "val/accuracy", 1, 2),
        (["--checkpoint.save_weights_only", "true", "--checkpoint.save_last", "true"], "val/accuracy", 1, 1),
        (["--trainer.val_check_interval", "10", "--checkpoint.filename", "mine"], "val/accuracy", 1, 1),
        (["--trainer.check_val_every_n_epoch", "2", "--checkpoint.save_top_k", "3"], "val/accuracy", 1, 1),
        (
            ["--trainer.check_val_every_n_epoch", "3", "--checkpoint.save_on_train_epoch_end", "true"],
            "val/accuracy", 1, 1,
        ),
    ],
)  # fmt: skip
def test_best_ckpt_holds_the_weights_of_the_best_figure(
    settings: list[str], metric: str, sign: int, every: int, tmp_path: Path
) -> None:
    fit(tmp_path, *settings)
    run = only_run(tmp_path)
    assert steps(run)["best"] == best_step(run, metric, sign, every)
    assert "optimizer_states" in torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    "settings",
    [
        ["--checkpoint.every_n_epochs", "1"],
        ["--checkpoint.save_top_k", "2"],
        ["--checkpoint.filename", "mine"],
    ],
)
def test_a_resumed_run_knows_the_best_so_far(settings: list[str], tmp_path: Path) -> None:
    """Also with other settings of checkpoints, and after its folder was moved."""
    fit(tmp_path, "--trainer.max_epochs", "3")
    moved = only_run(tmp_path).rename(tmp_path / "logs" / "softmax" / "moved")
    step = best_step(moved)
    assert step < 120  # the last epoch of the first part is worse
    more = ["fit", "--ckpt_path", str(moved), "--trainer.max_epochs", "4", "--optimizer.lr", "20", *settings]
    finished = run_pipeline("train", more, tmp_path)
    assert finished.code == 0, finished.err
    assert steps(moved)["best"] == step == best_step(moved)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ["--checkpoint.monitor", "val/loss"],
            "checkpoint.mode is max, but val/loss is better the smaller it is; set checkpoint.mode to min.",
        ),
        (["--checkpoint.mode", "min"], "val/accuracy is better the larger it is; set checkpoint.mode to max."),
        (
            ["--checkpoint.save_top_k", "3", "--checkpoint.filename", "mine"],
            "checkpoint.filename is 'mine' for each of the 3 checkpoints that checkpoint.save_top_k keeps; add {epoch}",
        ),
        (["--checkpoint.filename", "last"], "checkpoint.filename is 'last', the newest checkpoint's name"),
        (["--checkpoint.every_n_train_steps", "7"], "set trainer.val_check_interval to validate more often"),
        (["--checkpoint.train_time_interval", "00:00:01"], "last_checkpoint.train_time_interval for a newer last.ckpt"),
        (
            ["--trainer.callbacks", "[{class_path: ModelCheckpoint, init_args: {filename: best}}]"],
            "has the filename 'best', but the run itself writes best.ckpt; choose another filename.",
        ),
        (
            ["--trainer.callbacks", "[{class_path: ModelCheckpoint, init_args: {save_last: true}}]"],
            "has save_last, but every run writes last.ckpt; leave it out.",
        ),
    ],
)
def test_settings_that_would_call_another_checkpoint_the_best_are_refused(
    settings: list[str], sentence: str, tmp_path: Path
) -> None:
    finished = fit(tmp_path, *settings, code=2)
    assert sentence in finished.err and finished.err.count("\n") == 1, finished.err
    assert not list(tmp_path.glob("logs/*/*"))


def test_checkpoints_of_the_user_are_kept_beside_the_best(tmp_path: Path) -> None:
    own = "{class_path: ModelCheckpoint, init_args: {monitor: val/loss, mode: min, filename: lowest}}"
    finished = fit(tmp_path, f"--trainer.callbacks=[{own}]")
    run = only_run(tmp_path)
    found = steps(run)
    assert found == {"best": best_step(run), "lowest": best_step(run, "val/loss", -1), "last": 160}
    assert "best val/accuracy " in finished.out


def test_a_run_without_checkpoints(tmp_path: Path) -> None:
    finished = fit(tmp_path, "--trainer.enable_checkpointing", "false", "--trainer.max_epochs", "1")
    run = only_run(tmp_path)
    assert not list(run.rglob("*.ckpt")) and len(numbers(run)) > 0
    assert "checkpoints        none, as --trainer.enable_checkpointing is false" in finished.out
    assert "--ckpt_path" not in finished.out


def test_a_run_that_never_chose_a_best_checkpoint_says_so(tmp_path: Path) -> None:
    finished = fit(tmp_path, "--checkpoint.every_n_epochs", "5", "--trainer.max_epochs", "1")
    assert "best.ckpt          none" in finished.out
    assert set(steps(only_run(tmp_path))) == {"last"}
