"""A metric that a run does not log is noticed before training."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from callbacks import GeneratedDensity, SampleQuality, TrainingHealth
from modules import GAN, CaptionRNN, KNearestNeighbors, SimCLR, SoftmaxRegression
from pipelines.checkpoints.best_checkpoint import BestCheckpoint
from pipelines.checkpoints.monitors import check_monitors
from tests.command_line import run_pipeline
from tests.helpers import numbers, only_run, trainer_of

CONFIGS = Path(__file__).resolve().parents[3] / "pipelines" / "configs"
SOFTMAX = SoftmaxRegression((1, 4, 4), 10)
PLATEAU = {"class_path": "ReduceLROnPlateau", "init_args": {"monitor": "val/loss", "mode": "min"}}


class OwnNet(SoftmaxRegression):
    """A model of the user's, which may log anything."""


def best(monitor: str, mode: str = "max") -> BestCheckpoint:
    return BestCheckpoint(None, "best", monitor=monitor, mode=mode)


def check(folder: Path, model: L.LightningModule, *callbacks: Callback, schedule: Any = None) -> None:
    check_monitors(model, trainer_of(folder, *callbacks, enable_checkpointing=True), schedule)


@pytest.mark.parametrize(
    ("callbacks", "schedule", "sentence"),
    [
        ([best("val/acc")], None, "checkpoint monitors 'val/acc', which SoftmaxRegression does not log here; did you"),
        ([best("top5")], None, "use one of train/accuracy, train/loss, val/accuracy, val/loss."),
        ([best("val/accuracy"), EarlyStopping("val/los")], None, "EarlyStopping monitors 'val/los', which"),
        ([best("val/accuracy"), EarlyStopping("val/accuracy")], None, "EarlyStopping has the mode min, but"),
        ([best("val/accuracy"), ModelCheckpoint(monitor="test/loss")], None, "ModelCheckpoint monitors 'test/loss'"),
        ([best("val/accuracy")], {"init_args": {"monitor": "loss"}}, "lr_scheduler monitors 'loss', which"),
        (
            [best("val/accuracy")], {"init_args": {"monitor": "val/accuracy", "mode": "min"}},
            "lr_scheduler has the mode min, but val/accuracy is better the larger it is; set its mode to max.",
        ),
    ],
)  # fmt: skip
def test_what_is_not_logged_is_named(callbacks: list[Callback], schedule: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"monitors|mode") as error:
        check(tmp_path, SOFTMAX, *callbacks, schedule=schedule)
    assert sentence in str(error.value)


def test_what_is_logged_and_what_may_be_is_accepted(tmp_path: Path) -> None:
    check(tmp_path, SOFTMAX, best("val/accuracy"), EarlyStopping("val/loss"), schedule=PLATEAU)
    check(tmp_path, SOFTMAX, TrainingHealth(), best("health/gradient_norm", "min"))
    check(tmp_path, OwnNet((1, 4, 4), 10), best("val/margin"))
    with pytest.raises(ValueError, match="checkpoint monitors 'val/fid', which GAN does not log here; use one"):
        check(tmp_path, GAN((1, 28, 28)), best("val/fid", "min"))
    check(tmp_path, GAN((1, 28, 28)), SampleQuality(), best("val/fid", "min"))


def test_the_accuracy_of_a_class_of_the_data_is_accepted(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, best("val/accuracy/cat"), enable_checkpointing=True)
    check_monitors(SOFTMAX, trainer, None, ("cat", "dog"))
    with pytest.raises(ValueError, match="'val/accuracy/cat', which SoftmaxRegression does not log here; did you mean"):
        check_monitors(SOFTMAX, trainer, None, ("bird", "car"))


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_metric_of_every_topic_is_logged(config: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    name = settings["model"]["class_path"].rpartition(".")[2]
    model: Any = {
        "GAN": GAN, "SimCLR": SimCLR, "KNearestNeighbors": KNearestNeighbors, "CaptionRNN": CaptionRNN,
        "CaptionLSTM": CaptionRNN, "CaptionTransformer": CaptionRNN,
    }.get(name, SoftmaxRegression)  # fmt: skip
    report_k = type("Reports", (), {"report_k": (1,)})()
    names = model.metric_names.fget(report_k)
    used = [entry["class_path"].rpartition(".")[2] for entry in settings["trainer"]["callbacks"]]
    measured = [callback().metric_names for callback in (SampleQuality, GeneratedDensity) if callback.__name__ in used]
    assert settings["checkpoint"]["monitor"] in (*names, *(name for group in measured for name in group))


@pytest.mark.parametrize("callbacks", ["null", "[TrainingHealth]"])
def test_a_run_logs_exactly_the_names_that_it_is_said_to_log(callbacks: str, tmp_path: Path) -> None:
    arguments = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1"]
    arguments += ["--trainer.log_every_n_steps", "1", "--trainer.callbacks", callbacks]
    arguments += ["--checkpoint.monitor", "train/loss", "--checkpoint.mode", "min"]
    finished = run_pipeline("train", arguments, tmp_path)
    assert finished.code == 0, finished.err
    logged = {name for row in numbers(only_run(tmp_path)) for name in row} - {"step", "epoch"}
    expected = {f"val/accuracy/{digit}" for digit in range(10)}
    expected |= set(SOFTMAX.metric_names) | (set(TrainingHealth().metric_names) if callbacks != "null" else set())
    assert logged == expected - {"health/images_per_s"}  # which `numbers` leaves out


def test_the_sentence_comes_before_anything_is_written(tmp_path: Path) -> None:
    arguments = ["fit", "--config", "softmax", "--data", "Digits", "--checkpoint.monitor", "val/acc"]
    finished = run_pipeline("train", arguments, tmp_path)
    assert (finished.code, finished.out) == (2, "")
    assert "checkpoint monitors 'val/acc', which SoftmaxRegression does not log here; did you mean" in finished.err
    assert not list(tmp_path.glob("logs/*/*"))
