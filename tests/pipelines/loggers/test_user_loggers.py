"""A logger of the user's records what W&B does by default: in the run's folder and as one run."""

from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

from common.errors import UserError
from pipelines.comparison.runs import read_run
from pipelines.loggers import user_loggers
from pipelines.loggers.user_loggers import (
    check_packages,
    init_arguments_of,
    keep_training,
    not_created,
    placed,
    wandb_logger_of,
    with_logger,
)
from pipelines.tracking.wandb_options import RunLabels, WandbOptions
from tests.command_line import run_pipeline
from tests.helpers import figures, only_run
from tests.wandb_server import WandbServer

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.callbacks", "[Templates]",
]  # fmt: skip
LABELS = RunLabels("svm", "svm · Digits · reg 0.5", ("svm", "Digits"))
LOGGERS = "lightning.pytorch.loggers"


class OwnLogger(WandbLogger):
    """A user's subclass."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        super().log_metrics({f"own/{name}": value for name, value in metrics.items()}, step)


def online(server: WandbServer, folder: Path) -> dict[str, str]:
    return {
        "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.url, "WANDB_MODE": "online",
        "NETRC": str(folder / "netrc"), "WANDB_CONFIG_DIR": str(folder / "config"),
    }  # fmt: skip


def parsed(kind: str, /, **settings: Any) -> Namespace:
    return Namespace(class_path=f"{LOGGERS}.{kind}", init_args=Namespace(**settings))


@pytest.mark.slow
def test_a_wandb_logger_is_the_default_one_with_its_settings(tmp_path: Path) -> None:
    server = WandbServer()
    own = ["--trainer.logger", "WandbLogger", "--trainer.logger.project", "mine", "--trainer.logger.tags", "[a, b]"]
    finished = run_pipeline("train", [*FIT, *own], tmp_path, **online(server, tmp_path))
    assert finished.code == 0, finished.err
    run = only_run(tmp_path)
    for again in (["test", str(run)], ["fit", str(run), "--trainer.max_epochs", "2"]):
        finished = run_pipeline("train", again, tmp_path, **online(server, tmp_path))
        assert finished.code == 0, finished.err
    server.die()
    ((run_id, sent),) = server.runs.items()
    assert run_id == run.name and sent.settings["project"] == "mine"
    assert sent.settings["groupName"] == "softmax" and sent.settings["tags"] == ["softmax", "Digits", "a", "b"]
    assert sent.config["optimizer.lr"]["value"] == 0.003 and not [name for name in sent.config if "logger" in name]
    assert [row["val/accuracy"] for row in sent.history if "val/accuracy" in row] == pytest.approx(
        figures(run, "val/accuracy")
    )
    assert any("test/accuracy" in row for row in sent.history)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]
    assert len(list((run / "wandb").glob("run-*"))) == 3
    assert not [name for name in read_run(run).settings if "logger" in name]


def test_without_its_server_a_wandb_logger_is_tracked_offline(tmp_path: Path) -> None:
    away = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "online"}
    own = ["--trainer.logger", "tests.pipelines.loggers.test_user_loggers.OwnLogger"]
    finished = run_pipeline("train", [*FIT, *own], tmp_path, **away)
    assert finished.code == 0, finished.err
    assert finished.err == "W&B at 127.0.0.1:9 can't be reached: this run is tracked offline.\n"
    run = only_run(tmp_path)
    assert len(list((run / "wandb").glob(f"offline-run-*-{run.name}"))) == 1
    server = WandbServer()
    assert run_pipeline("compare", ["upload"], tmp_path, **online(server, tmp_path)).code == 0
    server.die()
    assert any("own/val/accuracy" in row for row in server.history) and "optimizer.lr" in server.config


def test_a_csv_logger_has_a_folder_in_that_of_the_run(tmp_path: Path) -> None:
    finished = run_pipeline("train", [*FIT, "--trainer.logger", "CSVLogger"], tmp_path)
    assert finished.code == 0, finished.err
    run = only_run(tmp_path)
    finished = run_pipeline("train", ["fit", str(run), "--trainer.max_epochs", "2"], tmp_path)
    assert finished.code == 0, finished.err
    assert sorted(file.parent.name for file in run.rglob("csv/*/metrics.csv")) == ["version_0", "version_1"]
    assert "save_dir: null" in (run / "config.yaml").read_text()  # of whatever run has this configuration
    assert "optimizer.lr: 0.003" in (run / "csv" / "version_0" / "hparams.yaml").read_text()


def test_loggers_are_placed_in_the_run_unless_they_have_a_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs" / "svm" / "a"
    board = parsed("TensorBoardLogger", save_dir=None, name="lightning_logs", version=None)
    flow = parsed("MLFlowLogger", tracking_uri=None, save_dir="./mlruns", experiment_name="lightning_logs", tags=None)
    (first, second) = placed([board, flow], folder, LABELS)
    assert first.init_args.as_dict() == {"save_dir": str(folder), "name": "tensorboard", "version": ""}
    assert second.init_args["tracking_uri"] == f"sqlite:///{tmp_path / 'logs' / 'mlflow.db'}"
    assert (second.init_args["experiment_name"], second.init_args["run_name"]) == ("lightning-231n", LABELS.name)
    assert second.init_args["tags"] == {"topic": "svm", "data": "Digits", "run": "a"}
    assert board.init_args["save_dir"] is None  # what config.yaml has
    elsewhere = parsed("TensorBoardLogger", save_dir="mine", name="n", version=None)
    assert placed(elsewhere, folder, LABELS) == elsewhere
    away = parsed("MLFlowLogger", tracking_uri="http://127.0.0.1:9", save_dir="./mlruns")
    assert placed(away, folder, LABELS).init_args["tracking_uri"].startswith("sqlite:///")
    assert capsys.readouterr().err.startswith("MLflow at 127.0.0.1:9 can't be reached: this run is tracked in ")
    assert placed(False, folder, LABELS) is False and placed(None, folder, LABELS) is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_loggers, "find_spec", lambda name: None)
    for name, package in (
        ("TensorBoardLogger", "tensorboard"),
        ("MLFlowLogger", "mlflow"),
        ("CometLogger", "comet_ml"),
    ):
        with pytest.raises(UserError, match=f"{name} needs the package {package}; install it with `pip install"):
            check_packages([parsed(name)])
    monkeypatch.setattr(user_loggers, "find_spec", lambda name: name == "tensorboardX" or None)
    check_packages([parsed("TensorBoardLogger"), parsed("CSVLogger"), parsed("WandbLogger")])


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (
            ".project mine",
            "--trainer.logger.project belongs to no logger; that of W&B, the default, is --wandb.project.",
        ),
        (".save_dir x", "--trainer.logger.save_dir belongs to no logger; W&B, the default, has --wandb.KEY. For"),
        (" TensorboardLogger", "There is no class 'TensorboardLogger' for trainer.logger; did you mean TensorBoard"),
    ],
)
def test_what_is_no_logger_is_said_in_a_sentence(own: str, said: str, tmp_path: Path) -> None:
    finished = run_pipeline("train", [*FIT, *f"--trainer.logger{own}".split()], tmp_path)
    assert finished.code == 2 and finished.err.startswith(f"error: {said}") and finished.err.count("\n") == 1


def test_settings_of_a_wandb_logger_are_those_of_the_keys() -> None:
    own = WandbLogger(project="mine", save_dir="here", id="i", log_model=True, entity="us", config={"a": 1})
    options = with_logger(WandbOptions(entity="them"), own)
    assert (options.project, options.entity, options.models_to_log, options.mode) == ("mine", "them", True, None)
    assert init_arguments_of(own) == {"id": "i", "dir": "here", "config": {"a": 1}}
    plain = WandbLogger(offline=True)
    assert with_logger(WandbOptions(), plain) == WandbOptions(mode="offline") and init_arguments_of(plain) == {}
    assert with_logger(WandbOptions(), None) == WandbOptions() and init_arguments_of(None) == {}
    with pytest.raises(UserError, match=r"trainer\.logger has 2 WandbLoggers, but a run is one run on W&B"):
        wandb_logger_of([own, plain])


def test_a_service_that_fails_costs_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    class Failing(MLFlowLogger):
        def __init__(self) -> None:  # without mlflow
            pass

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            calls.append(step)
            raise ConnectionError("no server at http://me:SECRET@host\nmore")

    logger = Failing()
    keep_training(logger)
    for step in range(3):
        logger.log_metrics({"a": 1.0}, step)
    logger.finalize("success")
    assert calls == [0]
    assert capsys.readouterr().err == (
        "Failing can't track this run any more (no server at http://host): its metrics are in metrics.csv.\n"
    )


def test_a_logger_that_can_not_be_created_is_named() -> None:
    text = "Errors:\n  - No key.\n  - Expected\nGiven value: Namespace(class_path='lightning.CometLogger', init_args"
    said = not_created(ValueError(text))
    assert said == "CometLogger can't be created (No key); correct it, or leave trainer.logger out."
    assert not_created(ValueError("Errors:\n  - No key.")) is None
