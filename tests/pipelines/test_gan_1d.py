"""The GAN in one dimension from the command line: fit, continue, test, check, compare, and what it refuses."""

from pathlib import Path

import pytest
import torch

from tests.command_line import run_pipeline
from tests.helpers import figures, only_run, weights

SMALL = ["--config", "gan_1d", "--data.num_train", "3000", "--data.num_val", "1000", "--data.batch_size", "100"]
FIT = ["fit", *SMALL, "--trainer.log_every_n_steps", "10"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run of two epochs."""
    folder = tmp_path_factory.mktemp("gan_1d")
    finished = run_pipeline("train", [*FIT, "--trainer.max_epochs", "2"], folder)
    assert finished.code == 0, finished.err
    return folder


def test_a_run_leaves_pictures_metrics_and_a_best_checkpoint(folder: Path) -> None:
    run = only_run(folder, "gan_1d")
    pictures = sorted(str(file.relative_to(run / "pictures")) for file in (run / "pictures").rglob("*.*"))
    kinds = ("density", "discriminator_accuracy")
    assert pictures == sorted([f"{kind}/{step:08d}.png" for kind in kinds for step in (30, 60)] + ["density.gif"])
    distances = figures(run, "val/wasserstein")
    assert len(distances) == 2 and len(figures(run, "train/accuracy_real")) == 6
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == (30, 60)[distances[1] < distances[0]]


def test_continued_it_ends_with_the_very_weights(folder: Path, tmp_path: Path) -> None:
    for arguments in ([*FIT, "--trainer.max_epochs", "1"], ["fit", "--trainer.max_epochs", "2", "--ckpt_path"]):
        if arguments[-1] == "--ckpt_path":
            arguments = [*arguments, str(only_run(tmp_path, "gan_1d"))]
        finished = run_pipeline("train", arguments, tmp_path)
        assert finished.code == 0, finished.err
    expected, got = weights(only_run(folder, "gan_1d")), weights(only_run(tmp_path, "gan_1d"))
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def test_it_is_tested_and_compared(folder: Path) -> None:
    run = only_run(folder, "gan_1d")
    tested = run_pipeline("train", ["test", "--ckpt_path", str(run)], folder)
    assert tested.code == 0 and "wasserstein" in tested.out, tested.err
    compared = run_pipeline("compare", [str(run)], folder)
    assert compared.code == 0 and run.name in compared.out, compared.err


def test_sample_refuses_numbers(folder: Path) -> None:
    refused = run_pipeline("sample", [str(only_run(folder, "gan_1d"))], folder)
    assert refused.code == 2 and "generates numbers, not images; their density is in pictures/density" in refused.err
    assert not (folder / "samples.png").exists()


@pytest.mark.slow
def test_it_passes_its_checks(tmp_path: Path) -> None:
    checked = run_pipeline("check", SMALL, tmp_path)
    assert checked.code == 0, checked.out + checked.err
