"""Lightning's switches under this project's loaders and command line: what they do, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler
from lightning.pytorch.tuner import Tuner
from torch import Tensor

from common.errors import UserError
from datamodules import Digits, ShapeCaptions
from modules import GAN, SoftmaxRegression
from pipelines.checkpoints.already_finished import EarlyStoppingAsGiven
from pipelines.train import main
from pipelines.trainer.trainer_callbacks import AccumulationCheck
from tests.helpers import figures, only_run, trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

SOFTMAX = ["fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--data.batch_size", "32"]
SOFTMAX += ["--trainer.max_epochs", "1"]
QUIET = ["--trainer.callbacks", "null"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("LIGHTNING_231N_RUN_ID", raising=False)


class Seen(Callback):
    """Keeps the labels of every training batch, by epoch."""

    def __init__(self) -> None:
        self.labels: list[list[list[int]]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.labels.append([])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(batch[1], Tensor)
        self.labels[-1].append(batch[1].tolist())


def seen(folder: Path, **settings: Any) -> list[list[list[int]]]:
    """Labels of the batches of a training on digits, by epoch."""
    callback = Seen()
    model = SoftmaxRegression((1, 8, 8), 10)
    trainer_of(folder, callback, **{"max_epochs": 3, **settings}).fit(model, Digits(batch_size=32))
    return callback.labels


@pytest.mark.parametrize(("batches", "expected"), [(1, 1), (3, 3), (0.25, 10)])
def test_overfit_batches_are_the_same_in_every_epoch(tmp_path: Path, batches: float, expected: int) -> None:
    first, second, third = seen(tmp_path, overfit_batches=batches)
    assert len(first) == expected
    assert first == second == third
    ordinary = seen(tmp_path, limit_train_batches=batches)
    assert first == ordinary[0] != ordinary[1]


def test_overfit_batches_of_captions_grouped_by_length(tmp_path: Path) -> None:
    data = ShapeCaptions(num_train=64, num_test=10, batch_size=4)
    data.setup("fit")
    data.trainer = trainer_of(tmp_path, overfit_batches=2)
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        epochs.append([tokens for _, tokens in loader])
    assert len(epochs[0]) > 2
    assert all(torch.equal(first, second) for first, second in zip(*epochs, strict=True))


def test_one_batch_is_learned_to_the_last_image() -> None:
    """As the course's check is typed: 32 images that a linear classifier can tell apart."""
    arguments = ["--trainer.overfit_batches", "1", "--trainer.max_epochs", "200", "--optimizer.lr", "0.1"]
    main([*SOFTMAX, *QUIET, *arguments, "--trainer.log_every_n_steps", "10", "--lr_scheduler", "null"])
    assert figures(only_run(Path()), "train/accuracy")[-1] == 1.0


def test_reloading_the_data_loaders_changes_no_batch(tmp_path: Path) -> None:
    assert seen(tmp_path, reload_dataloaders_every_n_epochs=1) == seen(tmp_path)


def test_accumulation_counts_optimizer_steps(tmp_path: Path) -> None:
    model, data = SoftmaxRegression((1, 8, 8), 10), Digits(batch_size=32)
    trainer = trainer_of(tmp_path, GradientAccumulationScheduler({0: 4, 1: 2}), max_epochs=2)
    trainer.fit(model, data)
    assert trainer.global_step == 10 + 20  # 40 batches an epoch


@pytest.mark.parametrize(("scheduling", "refused"), [({0: 1, 1: 41}, True), ({0: 40}, False)])
def test_an_epoch_has_the_batches_of_a_step(tmp_path: Path, scheduling: dict[int, int], refused: bool) -> None:
    callbacks = [GradientAccumulationScheduler(scheduling), AccumulationCheck()]
    trainer = trainer_of(tmp_path, *callbacks, max_epochs=2)
    if refused:
        with pytest.raises(UserError, match="The largest value of GradientAccumulationScheduler is 41, but an epoch "):
            trainer.fit(SoftmaxRegression((1, 8, 8), 10), Digits(batch_size=32))
    else:
        trainer.fit(SoftmaxRegression((1, 8, 8), 10), Digits(batch_size=32))
    assert trainer.global_step == (0 if refused else 2)


class Scored(SoftmaxRegression):
    """Logs a score of our own after each epoch: it stalls in the second and from the fifth on."""

    def on_validation_epoch_end(self) -> None:
        self.log("val/score", torch.tensor([1.0, 0.5, 2.0, 3.0, 3.0, 3.0, 3.0])[self.current_epoch])


@pytest.mark.parametrize(("min_epochs", "epochs"), [(1, 2), (3, 5), (6, 6)])
def test_a_metric_that_recovers_before_min_epochs_goes_on(tmp_path: Path, min_epochs: int, epochs: int) -> None:
    callbacks = [EarlyStopping("val/score", patience=1, mode="max"), EarlyStoppingAsGiven()]
    trainer = trainer_of(tmp_path, *callbacks, min_epochs=min_epochs, max_epochs=7, num_sanity_val_steps=0)
    trainer.fit(Scored((1, 8, 8), 10), Digits(batch_size=500))
    assert trainer.current_epoch == epochs


def test_a_run_that_is_shorter_than_min_epochs_is_not_finished(tmp_path: Path) -> None:
    stopping = ["--trainer.callbacks", "[EarlyStopping]", "--trainer.callbacks.monitor", "val/loss"]
    main([*SOFTMAX, *stopping, "--trainer.callbacks.patience", "1", "--optimizer.lr", "0", "--trainer.max_epochs", "2"])
    run = only_run(Path())
    longer = ["--trainer.max_epochs", "5", "--trainer.min_epochs", "3"]
    main(["fit", "--ckpt_path", str(run), *longer])
    assert len(figures(run, "val/loss")) == 3


def test_the_learning_rate_finder_sets_the_rate_that_a_script_trains_with(tmp_path: Path) -> None:
    model = SoftmaxRegression((1, 8, 8), 10)
    trainer = trainer_of(tmp_path, max_epochs=1)
    found = Tuner(trainer).lr_find(model, datamodule=Digits(batch_size=32), num_training=30)
    assert found is not None and found.suggestion() == model.lr != 1e-3
    trainer.fit(model, datamodule=Digits(batch_size=32))
    assert trainer.optimizers[0].param_groups[0]["lr"] == model.lr


def test_a_model_with_optimizers_of_its_own_has_no_rate_to_find(tmp_path: Path) -> None:
    assert not hasattr(GAN((1, 8, 8)), "lr")


def test_a_run_with_fast_dev_run_leaves_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main([*SOFTMAX, "--trainer.fast_dev_run", "3"])
    said = capsys.readouterr().out
    assert "fast_dev_run: 3 training batches and 3 validation batches passed; nothing was written." in said
    assert not list(tmp_path.iterdir())


def test_fast_dev_run_leaves_the_run_that_it_continues_as_it_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main([*SOFTMAX, *QUIET])
    run = only_run(Path())
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for command in (["fit", "--trainer.max_epochs", "2"], ["test"], ["validate"]):
        main([command[0], "--ckpt_path", str(run), "--trainer.fast_dev_run", "1", *command[1:]])
        assert "fast_dev_run: 1 " in capsys.readouterr().out
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--trainer.max_epochs 0", "No training step was taken: trainer.max_epochs is 0."),
        ("--trainer.max_steps 0", "No training step was taken: trainer.max_steps is 0."),
        ("--trainer.limit_train_batches 0", "No training step was taken: trainer.limit_train_batches is 0."),
        ("--optimizer.lr 1e30", ", val/loss is nan at the end. Try a smaller learning rate"),
        (
            "--trainer.max_epochs 9 --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor val/loss "
            "--trainer.callbacks.stopping_threshold 9",
            "stopped early      after epoch 1, step 40: Stopping threshold reached: val/loss =",
        ),
        ("--trainer.profiler simple --trainer.max_steps 2", "FIT Profiler Report"),
        ("--trainer.callbacks+=ModelSummary --trainer.max_steps 2", "650       Total params"),
        ("--trainer.max_time 00:00:00:00", "Time limit reached."),
    ],
)
def test_the_end_says_what_happened(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    callbacks = [] if "callbacks" in arguments else QUIET
    main([*SOFTMAX, *arguments.split(), *callbacks])
    said = capsys.readouterr().out
    assert sentence in said
    assert ("test it" in said) == ("No training step" not in said)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--trainer.val_check_interval 0", "trainer.val_check_interval is 0; it must be at least 1 batch"),
        ("--trainer.check_val_every_n_epoch -1", "trainer.check_val_every_n_epoch is -1; it must be at least 1."),
        ("--trainer.accumulate_grad_batches -1", "trainer.accumulate_grad_batches is -1; it must be at least 1."),
        ("--trainer.gradient_clip_val=-0.5", "trainer.gradient_clip_val is -0.5; it must be at least 0."),
        ("--trainer.log_every_n_steps -1", "trainer.log_every_n_steps is -1; it must be at least 0."),
        ("--trainer.min_epochs 5", "trainer.min_epochs is 5, but trainer.max_epochs is 1; set max_epochs to at least"),
        ("--trainer.strategy ddp_notebook --trainer.devices 2", "trainer.strategy is ddp_notebook, which starts the"),
        ("--trainer.sync_batchnorm true --trainer.devices 2", "torch synchronizes batch normalization of GPUs"),
        ("--trainer.num_nodes 2", "trainer.num_nodes is 2, but nothing has started this process as one of several"),
        ("--trainer.default_root_dir mine", "trainer.default_root_dir is 'mine', but the folder of a run is logs/"),
        ("--trainer.overfit_batches 0.1", "You requested to check 0.1 of the `val_dataloader` but 0.1 * 5 < 1. Please"),
        ("--trainer.val_check_interval 99", "`val_check_interval` (99) must be less than or equal to the number of"),
        (
            "--trainer.accumulate_grad_batches 41",
            "trainer.accumulate_grad_batches is 41, but an epoch has 40 batches, and",
        ),
        (
            "--trainer.accumulate_grad_batches 2 --trainer.limit_train_batches 1",
            "trainer.accumulate_grad_batches is 2, but an epoch has 1 batch, and its end is the end of a step; ",
        ),
        ("--config gan --trainer.gradient_clip_val 1", "trainer.gradient_clip_val is 1, but GAN steps its optimizers "),
        ("--config gan --trainer.accumulate_grad_batches 2", "trainer.accumulate_grad_batches accumulates gradients "),
        ("--config knn --trainer.gradient_clip_val 1", "trainer.gradient_clip_val is 1, but KNearestNeighbors steps "),
    ],
)
def test_what_a_run_can_not_do(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["fit", "--data", "Digits"] if "--config" in arguments else SOFTMAX
    with pytest.raises(SystemExit) as end:
        main([*base, *arguments.split(), *QUIET])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert sentence in said.replace("--trainer.", "trainer.")
    assert said.count("\n") == 1
    assert "limit_val_batches" not in said or "99" in arguments
    assert not any(Path().rglob("*.*"))


@pytest.mark.parametrize("shown", [None, "false"])
def test_a_progress_bar_among_the_callbacks_is_drawn(shown: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside a terminal there is none by default; Lightning refuses the two settings together."""
    hidden = [] if shown is None else [f"--trainer.enable_progress_bar={shown}"]
    main([*SOFTMAX, *QUIET[:1], "[TQDMProgressBar]", "--trainer.max_steps", "2", *hidden])
    assert ("Epoch 0:" in capsys.readouterr().out) == (shown is None)


def test_early_stopping_knows_every_metric_after_an_epoch(tmp_path: Path) -> None:
    stopping = EarlyStopping("train/loss", stopping_threshold=1e9)
    trainer = trainer_of(tmp_path, stopping, max_epochs=3, log_every_n_steps=20)
    trainer.fit(SoftmaxRegression((1, 8, 8), 10), Digits(batch_size=32))
    assert trainer.current_epoch == 1
