"""A run that was killed and resumed ends with exactly the weights of an uninterrupted run."""

import random
from pathlib import Path

import pytest
import torch

from tests.command_line import run_pipeline
from tests.helpers import only_run, rows, weights

STEPS_PER_EPOCH = 20  # 1,293 training images in batches of 64
EPOCHS = 4
NOISY = [
    "fit", "--config", "softmax", "--model", "tests.noisy.NoisyNet", "--data", "Digits", "--data.batch_size", "64",
    "--data.crop_padding", "1", "--data.rotation", "10", "--optimizer", "Adam", "--optimizer.lr", "0.01",
    "--trainer.callbacks", "[TrainingHealth]", "--trainer.log_every_n_steps", "5",
]  # fmt: skip
COSINE = ["--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", str(EPOCHS)]
LONG = ["--trainer.max_epochs", str(EPOCHS), *COSINE]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finished = run_pipeline("train", [*NOISY, *LONG], folder)
    assert finished.code == 0, finished.err
    return only_run(folder)


@pytest.mark.parametrize(
    "every", [7, *(pytest.param(every, marks=pytest.mark.slow) for every in (1, 20, None))]
)  # a checkpoint every so many steps; None: at each epoch's end
def test_killed_and_resumed(uninterrupted: Path, tmp_path: Path, every: int | None) -> None:
    kill = random.Random(f"kill {every}").randint(STEPS_PER_EPOCH + 1, EPOCHS * STEPS_PER_EPOCH - 1)
    often = [] if every is None else ["--last_checkpoint.every_n_train_steps", str(every)]
    killer = [
        f"--trainer.callbacks=[TrainingHealth,{{class_path: tests.kill.KillAtStep, init_args: {{step: {kill}}}}}]"
    ]
    killed = run_pipeline("train", [*NOISY, *LONG, *often, *killer], tmp_path)
    assert killed.code == -9, killed.err
    run = only_run(tmp_path)
    continued = run_pipeline(
        "train", ["fit", "--ckpt_path", str(run), "--trainer.callbacks", "[TrainingHealth]"], tmp_path
    )
    assert continued.code == 0, continued.err
    assert only_run(tmp_path) == run  # no second folder
    expected, got = weights(uninterrupted), weights(run)
    assert expected.keys() == got.keys()
    for name in expected:
        assert torch.equal(expected[name], got[name]), (name, kill)
    # Every row once, with the means over the whole window between two logs, whichever process saw its steps.
    assert rows(run) == rows(uninterrupted)


@pytest.mark.slow
def test_killed_again_and_again(uninterrupted: Path, tmp_path: Path) -> None:
    """Five kills of one run, two of them before the same checkpoint."""
    kills = sorted(random.Random("again").sample(range(8, EPOCHS * STEPS_PER_EPOCH), 5))
    arguments = [*NOISY, *LONG, "--last_checkpoint.every_n_train_steps", "3"]
    for kill in kills:
        killer = (
            f"--trainer.callbacks=[TrainingHealth,{{class_path: tests.kill.KillAtStep, init_args: {{step: {kill}}}}}]"
        )
        assert run_pipeline("train", [*arguments, killer], tmp_path).code == -9
        arguments = ["fit", "--ckpt_path", str(only_run(tmp_path))]
    final = run_pipeline("train", [*arguments, "--trainer.callbacks", "[TrainingHealth]"], tmp_path)
    assert final.code == 0, final.err
    for name, value in weights(uninterrupted).items():
        assert torch.equal(value, weights(only_run(tmp_path))[name]), (name, kills)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(uninterrupted: Path, tmp_path: Path) -> None:
    for seed, same in (("0", True), ("1", False)):
        folder = tmp_path / seed
        folder.mkdir()
        assert run_pipeline("train", [*NOISY, *LONG, "--seed_everything", seed], folder).code == 0
        equal = [torch.equal(v, weights(only_run(folder))[k]) for k, v in weights(uninterrupted).items()]
        assert all(equal) if same else not all(equal)
