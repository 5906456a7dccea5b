"""Two processes on the CPU (gloo) see what one process sees, train to the same weights and count every sample once."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.command_line import PROJECT, run_pipeline, train_on_two
from tests.helpers import numbers, only_run, weights

TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.crop_padding", "1", "--data.flip", "true",
    "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "5", "--optimizer.lr", "0.05",
]  # fmt: skip


def launch(arguments: list[str], folder: Path, launcher: Sequence[str] = ()) -> None:
    """Runs the command line in a real process of its own, since Lightning starts the second rank from its arguments."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, "pipelines.train", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def train(arguments: list[str], folder: Path) -> str:
    """Runs the command line in as many processes as it says; what it prints."""
    if arguments[-len(TWO) :] == TWO:
        return train_on_two(arguments, folder).out
    done = run_pipeline("train", arguments, folder)
    assert done.code == 0, done.err
    return done.out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same training on two processes with batches of 32 and on one with batches of 64."""
    folder = tmp_path_factory.mktemp("runs")
    for processes, start, arguments in (
        (2, launch, ["--data.batch_size", "32", *TWO]),
        (1, train, ["--data.batch_size", "64"]),
    ):
        (folder / str(processes)).mkdir()
        start([*FIT, *arguments], folder / str(processes))
    return {processes: only_run(folder / str(processes)) for processes in (1, 2)}


def test_one_run_folder_and_one_wandb_run(runs: dict[int, Path]) -> None:
    assert len(list(runs[2].parent.iterdir())) == 1
    assert len(list((runs[2] / "wandb").glob("offline-run-*"))) == 1


def test_same_training_as_one_process(runs: dict[int, Path]) -> None:
    torch.testing.assert_close(*(weights(runs[n])["linear.weight"] for n in (1, 2)), rtol=1e-4, atol=1e-6)
    one, two = numbers(runs[1]), numbers(runs[2])
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for name in ("train/loss", "train/accuracy", "val/accuracy", "health/gradient_norm"):
        expected = [row[name] for row in one if name in row]
        assert len(expected) > 1
        assert [row[name] for row in two if name in row] == pytest.approx(expected, rel=1e-4), name


@pytest.mark.slow
def test_one_run_folder_under_torchrun(tmp_path: Path) -> None:
    """Its ranks start at once and know nothing of each other before the training."""
    launcher = ["torch.distributed.run", "--nproc_per_node=2", "-m"]
    launch([*FIT, *TWO, "--trainer.max_epochs", "1"], tmp_path, launcher)
    run = only_run(tmp_path)
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1
    files = {"config.yaml", "metrics.csv", "status.json", "checkpoints", "pictures", "wandb"}
    assert files == {path.name for path in run.iterdir()}


@pytest.mark.parametrize("command", ["test", "validate"])
def test_same_figures_to_the_last_digit(runs: dict[int, Path], command: str) -> None:
    """One checkpoint, batches of 7: 360 test images are 52 batches, the last of 3; 144 validation images are 21."""
    single = ["--trainer.devices", "1", "--trainer.strategy", "auto"]
    arguments = [command, "--ckpt_path", str(runs[2]), "--data.batch_size", "7", "--trainer.logger", "false"]
    folder = runs[2].parent.parent.parent
    outputs = [train([*arguments, *devices], folder).splitlines()[1:] for devices in (TWO, single)]
    assert outputs[0] == outputs[1]
    if command == "test":
        assert "360" in next(line for line in outputs[0] if line.startswith("test/images"))
        recorded = [row for row in numbers(runs[2]) if "test/accuracy" in row]
        assert len(recorded) == 2  # one by each command, none by the second rank
        del recorded[0]["epoch"], recorded[1]["epoch"]
        assert recorded[0] == recorded[1]


@pytest.mark.parametrize(
    "topic",
    [
        ["--config", "knn", "--model.k_max", "20"],
        ["--config", "two_layer", "--data.features", "[hog]", "--data.batch_size", "32", "--trainer.max_epochs", "1"],
    ],
    ids=["knn", "features"],
)
def test_memory_and_features_give_the_figures_of_one_process(topic: list[str], tmp_path: Path) -> None:
    """kNN holds all training images on each process and shares the queries; features are cached by either."""
    last = []
    for processes, arguments in ((1, []), (2, TWO)):
        folder = tmp_path / str(processes)
        folder.mkdir()
        size = ["--data.batch_size", str(64 // processes)]
        train(["fit", *topic, "--data", "Digits", *size, "--data.flip", "false", *arguments], folder)
        last.append({k: v for k, v in numbers(only_run(folder, topic[1]))[-1].items() if k.startswith("val/")})
    assert len(last[0]) >= 2
    assert last[1] == pytest.approx(last[0], rel=1e-5)
