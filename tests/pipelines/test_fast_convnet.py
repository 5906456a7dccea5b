"""The fast recipe from the command line: exact resume, two processes, bad input."""

from pathlib import Path

import pytest
import torch

from tests.command_line import run_pipeline, train_on_two
from tests.helpers import only_run, weights

FIT = [
    "fit", "--config", "fast_convnet", "--data", "Digits", "--data.batch_size", "128", "--model.widths", "[6,8]",
    "--model.whitening_bias_epochs", "2", "--trainer.max_epochs", "4", "--trainer.callbacks", "[TrainingHealth]",
    "--trainer.log_every_n_steps", "3", "--trainer.logger", "false",
]  # fmt: skip
SGD = ["--model.optimizer", "sgd", "--model.lookahead", "5", "--model.schedule_peak", "0.2", "--model.lr", "3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "kill"), [([], 14), (SGD, 23), (SGD, 34)], ids=["muon", "lookahead", "frozen bias"]
)  # 10 steps an epoch; the checkpoints are in the middle of epochs and of lookahead's five steps
def test_killed_and_continued(tmp_path: Path, settings: list[str], kill: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    assert run_pipeline("train", [*FIT, *settings], whole).code == 0
    often = ["--last_checkpoint.every_n_train_steps", "4"]
    killer = f"[TrainingHealth,{{class_path: tests.kill.KillAtStep, init_args: {{step: {kill}}}}}]"
    killed = run_pipeline("train", [*FIT, *settings, *often, "--trainer.callbacks", killer], parts)
    assert killed.code == -9, killed.err
    (run,) = parts.glob("logs/fast_convnet/*")
    again = run_pipeline("train", ["fit", "--ckpt_path", str(run), "--trainer.callbacks", "[TrainingHealth]"], parts)
    assert again.code == 0, again.err
    expected, found = (weights(only_run(folder, "fast_convnet")) for folder in (whole, parts))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_two_processes_end_with_the_same_weights_and_the_whitening_of_one(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    assert run_pipeline("train", [*FIT, *SGD], tmp_path / "one").code == 0
    two = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    two += ["--data.batch_size", "64", "--trainer.callbacks", "[TrainingHealth,tests.same_weights.SameWeights]"]
    (tmp_path / "two").mkdir()
    train_on_two([*FIT, *SGD, *two], tmp_path / "two")
    one, both = (weights(only_run(tmp_path / name, "fast_convnet")) for name in ("one", "two"))
    assert torch.equal(one["network.first.weight"], both["network.first.weight"])
    # Each process normalizes its own half of a batch, so the other weights agree approximately.
    assert torch.cosine_similarity(one["network.first.bias"], both["network.first.bias"], 0) > 0.9
    assert one["network.groups.0.convs.0.weight"].shape == both["network.groups.0.convs.0.weight"].shape == (6, 72)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["--trainer.max_epochs", "1"], "whitening_bias_epochs is 2, more than the run's 1; it must be at most 1"),
        (["--data.preprocessing", "pca"], "takes images (C, H, W), but the data has shape (64,)"),
        (["--trainer.precision", "16-true"], "float16 training is not supported on CPUs, but precision is 16-true"),
        (["--model.schedule_peak", "1.5"], "peak is 1.5; it must be in [0, 1)."),
        (
            ["--optimizer", "SGD", "--lr_scheduler", "Triangular", "--lr_scheduler.total_steps", "50"],
            "total_steps of the schedule is 50, but the run has 40 steps",
        ),
        (["--optimizer", "Adam"], "FastConvNet has an optimizer and a schedule of its own; remove optimizer and set "),
    ],
)
def test_bad_input_ends_with_one_sentence(tmp_path: Path, settings: list[str], sentence: str) -> None:
    finished = run_pipeline("train", [*FIT, *settings], tmp_path)
    assert finished.code == 2, finished.err
    assert sentence in finished.err
    assert "Traceback" not in finished.err
    assert len(finished.err.strip().splitlines()) == 1
