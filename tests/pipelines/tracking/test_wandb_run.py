"""Runs are tracked online and offline, or not; no failure of the server stops a run. All servers are local ones."""

import csv
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.run.status import read_status
from pipelines.tracking.flat_settings import flat_settings
from pipelines.tracking.metrics_csv import MetricsCSV
from pipelines.tracking.wandb_mode import wandb_mode
from pipelines.tracking.wandb_options import RunLabels, WandbOptions
from pipelines.tracking.wandb_run import finish_wandb, start_wandb
from tests.command_line import run_pipeline
from tests.helpers import figures, only_run, rows, with_python
from tests.wandb_server import WandbServer

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.log_every_n_steps",
    "1",
]  # fmt: skip
KEY = "a" * 40


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_mode_follows_the_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert wandb_mode() == "offline"
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "http://elsewhere.example")
    assert wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mode() == "online"
    for mode in ("online", "offline", "disabled"):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert wandb_mode() == mode


def test_flat_settings_are_spelled_as_on_the_command_line() -> None:
    config = {
        "seed_everything": 0,
        "model": {"class_path": "modules.LinearSVM", "init_args": {"reg": 0.1}},
        "trainer": {"max_epochs": 3, "callbacks": [{"class_path": "callbacks.Templates"}]},
        "lr_scheduler": None,
    }
    assert flat_settings(config) == {
        "seed_everything": 0,
        "model": "LinearSVM",
        "model.reg": 0.1,
        "trainer.max_epochs": 3,
        "trainer.callbacks": [{"class_path": "callbacks.Templates"}],
        "lr_scheduler": None,
    }


def test_the_run_has_its_settings_and_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = WandbOptions().init_arguments(RunLabels("svm", "run-1", ()))
    logger = start_wandb(tmp_path, "run-1", arguments, {"model.reg": 0.1, "model": "LinearSVM"}, "offline")
    try:
        assert logger is not None
        run = logger.experiment
        assert (run.id, run.group, run.project) == ("run-1", "svm", "lightning-231n")
        assert run.config["model.reg"] == 0.1
        assert run.config["model"] == "LinearSVM"
    finally:
        finish_wandb([logger] if logger else [], 0)


@pytest.mark.parametrize("off", [{"WANDB_MODE": "disabled"}, {"logger": "false"}])
def test_off_on_request_but_always_a_csv(tmp_path: Path, off: dict[str, str]) -> None:
    arguments = [*FIT, "--trainer.logger", off["logger"]] if "logger" in off else FIT
    mode = off.get("WANDB_MODE", "offline")
    finished = run_pipeline("train", arguments, tmp_path, WANDB_MODE=mode)
    assert finished.code == 0, finished.err
    assert finished.err == ""  # no warnings, no advertisements
    run = only_run(tmp_path)
    assert not (run / "wandb").exists()
    assert {"train/loss", "val/accuracy", "health/lr"} <= rows(run)[0].keys()


def test_offline_run_continues_under_its_id(tmp_path: Path) -> None:
    assert run_pipeline("train", FIT, tmp_path, WANDB_MODE="offline").code == 0
    run = only_run(tmp_path)
    again = ["fit", "--ckpt_path", str(run), "--trainer.max_epochs", "2"]
    finished = run_pipeline("train", again, tmp_path, WANDB_MODE="offline")
    assert finished.code == 0, finished.err
    assert "wandb sync" in finished.out
    assert only_run(tmp_path) == run
    offline = sorted((run / "wandb").glob("offline-run-*"))
    assert len(offline) == 2
    assert all(folder.name.endswith(run.name) for folder in offline)
    steps = [int(row["step"]) for row in rows(run) if row["val/accuracy"]]
    assert steps == [1, 3]  # 1,293 images in batches of 500: two steps an epoch, the second run's after the first's


def test_an_unreachable_server_costs_nothing(tmp_path: Path) -> None:
    server = {"WANDB_MODE": "online", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    finished = run_pipeline("train", FIT, tmp_path, **server)
    assert finished.code == 0
    assert finished.err.strip() == "W&B at 127.0.0.1:9 can't be reached: this run is tracked offline."
    assert list((only_run(tmp_path) / "wandb").glob("offline-run-*"))


@pytest.fixture
def failing_server() -> Iterator[str]:
    """Answers every request with status 500."""

    class Failing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(500)
            self.end_headers()

        do_GET = do_PUT = do_POST

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.slow
def test_a_failing_server_does_not_stop_the_run(tmp_path: Path, failing_server: str) -> None:
    server = {"WANDB_MODE": "online", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": failing_server}
    finished = run_pipeline("train", FIT, tmp_path, **server)
    assert finished.code == 0, finished.err
    assert "it is tracked offline" in finished.err
    assert list((only_run(tmp_path) / "wandb").glob("offline-run-*"))
    assert (only_run(tmp_path) / "checkpoints" / "best.ckpt").is_file()


def test_figures_settings_and_pictures_arrive(tmp_path: Path) -> None:
    server = WandbServer()
    online = {"WANDB_MODE": "online", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
    finished = run_pipeline("train", FIT, tmp_path, **online)
    server.die()
    assert finished.code == 0, finished.err
    run = only_run(tmp_path)
    assert finished.err == f"W&B: {server.url}/us/lightning-231n/runs/{run.name}\n"
    assert server.config["model"]["value"] == "SoftmaxRegression"
    assert server.config["optimizer.lr"]["value"] == 0.003
    expected = figures(run, "val/accuracy")
    assert [row["val/accuracy"] for row in server.history if "val/accuracy" in row] == pytest.approx(expected)
    assert [row["trainer/global_step"] for row in server.history if "train/loss" in row] == [0, 1]
    sent = {
        Path(name).as_posix().removeprefix("media/images/").split("_")[0] for name in server.files if "media" in name
    }
    assert {"templates", "confusion/val", "mistakes/val"} <= sent


@pytest.mark.slow
def test_a_server_that_dies_does_not_stop_the_run(tmp_path: Path) -> None:
    server = WandbServer()
    environment = {"WANDB_MODE": "online", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
    environment |= {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.5", "WANDB_FINISH_TIMEOUT": "3"}

    def die_once_the_run_has_begun() -> None:
        server.streaming.wait(60)
        server.die()

    threading.Thread(target=die_once_the_run_has_begun, daemon=True).start()
    arguments = [
        *FIT,
        "--data.batch_size",
        "32",
        "--trainer.max_epochs",
        "40",
        "--trainer.callbacks",
        "[TrainingHealth]",
    ]
    finished = run_pipeline("train", arguments, tmp_path, **environment)
    assert server.streaming.is_set()
    assert finished.code == 0, finished.err
    run = only_run(tmp_path)
    assert (
        "W&B's server did not take everything in time; send the rest with: python -m pipelines.compare upload "
        in with_python(finished.err)
    )
    assert len(figures(run, "val/accuracy")) == 40  # every epoch was trained and written down
    assert len(server.history) < len(rows(run))  # it really died before the end
    assert list((run / "wandb").glob("run-*/run-*.wandb"))  # what `wandb sync` sends


def test_csv_survives_a_kill_and_new_columns(tmp_path: Path) -> None:
    first = MetricsCSV(tmp_path)
    first.log_metrics({"a": 1.0}, step=0)
    first.log_metrics({"a": 2.0, "b": 3.0}, step=1)
    first.log_metrics({"b": 4.0}, step=2)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("3,5")  # a row cut off by a kill
    resumed = MetricsCSV(tmp_path, resume_step=2)  # from a checkpoint after two steps
    resumed.begin()
    resumed.log_metrics({"a": 9.0, "c": 7.0}, step=2)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"step": "0", "a": "1.0", "b": "", "c": ""},
            {"step": "1", "a": "2.0", "b": "3.0", "c": ""},
            {"step": "2", "a": "9.0", "b": "", "c": "7.0"},
        ]


@pytest.mark.slow
def test_the_death_of_wandb_s_own_process_costs_the_run_nothing(tmp_path: Path) -> None:
    found = []
    for name, killer in (("whole", ""), ("killed", ",{class_path: tests.kill.KillWandbAtStep, init_args: {step: 30}}")):
        folder = tmp_path / name
        folder.mkdir()
        arguments = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "3"]
        arguments += ["--data.batch_size", "64", f"--trainer.callbacks=[TrainingHealth,Templates{killer}]"]
        finished = run_pipeline("train", arguments, folder, WANDB_MODE="offline")
        assert finished.code == 0, finished.err
        run = only_run(folder)
        assert read_status(run).state == "finished"
        found.append([[row["step"], row["train/loss"], row["val/loss"]] for row in rows(run)])
        assert ("W&B's service was ended by a signal" in finished.err) == bool(killer)
        assert "Traceback" not in finished.err
    assert found[0] == found[1]
    assert [row[0] for row in found[0] if row[2]] == ["19", "39", "59"]  # validated twice after the death


@pytest.mark.slow
def test_the_settings_on_record_are_those_of_the_training(tmp_path: Path) -> None:
    """A test with other settings changes nothing of them, nor does a resume that fails before its first step."""
    server = WandbServer()
    environment = {"WANDB_MODE": "online", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
    assert run_pipeline("train", FIT, tmp_path, **environment).code == 0
    run = str(only_run(tmp_path))
    trained = server.config["data.batch_size"]["value"]
    tested = run_pipeline("train", ["test", "--ckpt_path", run, "--data.batch_size", "77"], tmp_path, **environment)
    assert tested.code == 0, tested.err
    longer = ["fit", "--ckpt_path", run, "--trainer.max_epochs", "2", "--trainer.callbacks"]
    failing = [*longer, "[tests.pipelines.run.test_two_writers.FailBeforeAStep]"]
    assert run_pipeline("train", failing, tmp_path, **environment).code == 1
    assert server.config["data.batch_size"]["value"] == trained
    assert server.config["trainer.max_epochs"]["value"] == 1
    assert run_pipeline("train", [*longer, "null"], tmp_path, **environment).code == 0
    server.die()
    assert server.config["trainer.max_epochs"]["value"] == 2
