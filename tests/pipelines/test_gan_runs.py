"""Runs of the GAN topics from the command line: resumed, shared by two processes, diverged, and refused."""

from pathlib import Path

import pytest
import torch

from tests.command_line import run_pipeline, train_on_two
from tests.helpers import numbers, only_run, rows, weights
from tests.pipelines.test_distributed import TWO

TINY = [
    "fit", "--config", "gan", "--data", "Digits", "--model.latent_size", "4", "--model.generator_width", "8",
    "--model.discriminator_width", "8", "--model.discriminator_steps", "2", "--trainer.callbacks", "null",
    "--checkpoint.monitor", "null", "--trainer.log_every_n_steps", "5", "--trainer.max_epochs", "2",
    "--trainer.precision", "32-true",
]  # fmt: skip
ONE = ["--data.batch_size", "64"]  # 1,293 training images: 20 iterations in an epoch


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finished = run_pipeline("train", [*TINY, *ONE], folder)
    assert finished.code == 0, finished.err
    return only_run(folder, "gan")


@pytest.mark.parametrize("kill", [13, 27])
def test_killed_and_continued_it_ends_with_the_very_weights(uninterrupted: Path, kill: int, tmp_path: Path) -> None:
    killer = f"--trainer.callbacks=[{{class_path: tests.kill.KillAtStep, init_args: {{step: {kill}}}}}]"
    often = ["--last_checkpoint.every_n_train_steps", "4"]
    assert run_pipeline("train", [*TINY, *ONE, *often, killer], tmp_path).code == -9
    run = only_run(tmp_path, "gan")
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == (12, 24)[kill == 27]
    continued = run_pipeline("train", ["fit", "--ckpt_path", str(run), "--trainer.callbacks", "null"], tmp_path)
    assert continued.code == 0, continued.err
    expected, got = weights(uninterrupted), weights(run)
    assert expected.keys() == got.keys() and any("average" in name for name in got)
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name
    assert [row["step"] for row in rows(run)] == [row["step"] for row in rows(uninterrupted)]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Without batch norm, which sees each process's images alone; in float64, since Adam magnifies what is near 0."""
    arguments = [*TINY, "--trainer.precision", "64-true", "--model.generator_norm", "none", "--model.clip_norm", "0.05"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert run_pipeline("train", [*arguments, *ONE], tmp_path / "one").code == 0
    train_on_two([*arguments, "--data.batch_size", "32", *TWO], tmp_path / "two")
    runs = [only_run(tmp_path / name, "gan") for name in ("one", "two")]
    one, two = map(weights, runs)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-7, msg=name)
    expected, got = map(numbers, runs)
    assert [row["step"] for row in got] == [row["step"] for row in expected]
    for name in ("train/loss_d", "train/loss_g", "train/accuracy_real", "train/accuracy_fake"):
        figures = [row[name] for row in expected if name in row]
        assert len(figures) == 8
        assert [row[name] for row in got if name in row] == pytest.approx(figures, rel=1e-5), name


def test_a_run_that_diverges_ends_with_a_sentence_and_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    arguments = [*TINY, *ONE, "--model.loss", "wasserstein", "--model.gradient_penalty", "10"]
    ruinous = ["--model.discriminator_lr", "1e30", "--last_checkpoint.every_n_train_steps", "1"]
    finished = run_pipeline("train", [*arguments, *ruinous], tmp_path)
    assert finished.code == 2
    assert finished.err.startswith("error: Training diverged: ") and finished.err.count("\n") == 1, finished.err
    assert "step 1" in finished.err and "discriminator" in finished.err
    assert not list(tmp_path.glob("logs/gan/*/checkpoints/*.ckpt"))  # never one with such weights


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model.discriminator_steps", "0"], "discriminator_steps is 0; it must be at least 1"),
        (["--optimizer", "Adam"], "one was given for both; remove optimizer and set model.generator_lr"),
        (["--data.preprocessing", "standardize"], "but preprocessing is standardize; set it to scale"),
        (["--data.preprocessing", "pca"], "generates images (C, H, W), but the data has shape (64,)"),
        (["--trainer.gradient_clip_val", "1"], "gradient_clip_val"),
    ],
)
def test_refusals(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    finished = run_pipeline("train", [*TINY, *ONE, *arguments], tmp_path)
    assert finished.code == 2
    assert sentence in finished.err and finished.err.count("\n") == 1, finished.err


def test_predict_points_to_where_samples_are_made(uninterrupted: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    arguments = ["predict", "--ckpt_path", str(uninterrupted), "--images", str(tmp_path / "image.png")]
    finished = run_pipeline("train", arguments, tmp_path)
    assert finished.code == 2
    assert "generate images with python -m pipelines.sample RUN" in finished.err
