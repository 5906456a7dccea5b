"""The keys wandb.* set the run on W&B; one that is not set has W&B's own setting."""

from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from pipelines.tracking.wandb_options import OPTIONS, RunLabels, WandbOptions
from tests.command_line import PROJECT, run_pipeline
from tests.helpers import only_run
from tests.wandb_server import WandbServer

KEY = "a" * 40
LABELS = RunLabels("svm", "name", ("svm",))
FIT = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.callbacks", "null"]
VARIABLES = {"PROJECT": "p", "ENTITY": "e", "RUN_GROUP": "g", "NAME": "n", "TAGS": "x, y", "LOG_MODEL": "end"}


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "WATCH", "RUN_ID", "SERVICE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)


def test_a_key_precedes_its_variable_and_that_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    options = WandbOptions()
    assert options.init_arguments(LABELS) == {
        "project": "lightning-231n", "group": "svm", "name": "name", "tags": ["svm"],
    }  # fmt: skip
    assert (options.models_to_log, options.to_watch) == (False, None)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_WATCH", "gradients")
    assert options.init_arguments(LABELS) == {
        "project": "p", "group": "g", "name": "n", "tags": ["svm", "x", "y"],
    }  # fmt: skip  # the client itself reads the others
    assert (options.models_to_log, options.to_watch) == (True, "gradients")
    options = WandbOptions("q", "f", "h", "m", ["z", "svm"], "o", "j", False, False, "all")
    assert options.init_arguments(LABELS) == {
        "project": "q", "entity": "f", "group": "h", "name": "m", "tags": ["svm", "z"], "notes": "o", "job_type": "j",
        "save_code": False,
    }  # fmt: skip
    assert (options.models_to_log, options.to_watch) == (False, "all")


def test_a_run_keeps_the_name_and_tags_that_it_was_given_on_wandb() -> None:
    later = WandbOptions().init_arguments(LABELS, first=False)
    assert later == {"project": "lightning-231n", "group": "svm"}
    later = WandbOptions(name="n", tags=["a"]).init_arguments(LABELS, first=False)
    assert (later["name"], later["tags"]) == ("n", ["svm", "a"])


def test_values_that_wandb_does_not_document_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_LOG_MODEL", "best")
    monkeypatch.setenv("WANDB_WATCH", "weights")
    with pytest.raises(UserError, match="WANDB_LOG_MODEL is 'best'; use false, end or checkpoint"):
        _ = WandbOptions().models_to_log
    with pytest.raises(UserError, match="WANDB_WATCH is 'weights'; use false, gradients, parameters or all"):
        _ = WandbOptions().to_watch


def test_the_keys_arrive_from_file_and_command_line(tmp_path: Path) -> None:
    server = WandbServer()
    environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url, "WANDB_MODE": "", "WANDB_PROJECT": "overridden"}
    (tmp_path / "mine.yaml").write_text("wandb: {project: mine, tags: [a], job_type: train}\n")
    arguments = [*FIT, "--config", "mine.yaml", "--wandb.tags", "[b, c]", "--wandb.notes", "why", "--wandb.name", "N"]
    finished = run_pipeline("train", arguments, tmp_path, **environment)
    server.die()
    assert finished.code == 0, finished.err
    run = only_run(tmp_path)
    (sent,) = server.runs.values()
    assert sent.settings["project"] == "mine" and sent.settings["displayName"] == "N"
    assert sent.settings["tags"][-2:] == ["b", "c"] and sent.settings["notes"] == "why"
    assert (sent.settings["jobType"], sent.settings["groupName"]) == ("train", "softmax")
    recorded = yaml.safe_load((run / "config.yaml").read_text())["wandb"]
    assert (recorded["project"], recorded["tags"], recorded["entity"]) == ("mine", ["b", "c"], None)


def test_wandb_watches_the_layers(tmp_path: Path) -> None:
    server = WandbServer()
    environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url, "WANDB_MODE": "online"}
    watched = [*FIT, "--wandb.watch", "all", "--trainer.log_every_n_steps", "1"]
    finished = run_pipeline("train", watched, tmp_path, **environment)
    server.die()
    assert finished.code == 0, finished.err
    histograms = {name for row in server.history for name in row if name.startswith(("gradients/", "parameters/"))}
    assert histograms == {
        "gradients/linear.weight",
        "gradients/linear.bias",
        "parameters/linear.weight",
        "parameters/linear.bias",
    }


def test_an_alert_says_how_a_run_ended(tmp_path: Path) -> None:
    server = WandbServer()
    environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url, "WANDB_MODE": "online"}
    failing = ["--trainer.callbacks", "[tests.pipelines.run.test_two_writers.FailBeforeAStep]"]
    for run_id, more in (("good", []), ("diverging", ["--optimizer.lr", "1e38"]), ("failing", failing)):
        run_pipeline("train", [*FIT, "--wandb.alerts", "true", *more], tmp_path, WANDB_RUN_ID=run_id, **environment)
    server.die()
    alerts = {run_id: run.alerts for run_id, run in server.runs.items()}
    (good,), (diverged,), (failed,) = (alerts[run_id] for run_id in ("good", "diverging", "failing"))
    assert (good["title"], good["severity"]) == ("softmax finished: good", "INFO")
    assert good["text"].startswith("best val/accuracy 0.") and good["text"].endswith(", 2 steps")
    assert (diverged["title"], diverged["severity"]) == ("softmax diverged: diverging", "ERROR")
    assert "val/loss is " in diverged["text"]
    assert (failed["title"], failed["severity"]) == ("softmax failed: failing", "ERROR")


def test_a_resumed_run_may_have_other_settings_on_wandb(tmp_path: Path) -> None:
    assert run_pipeline("train", FIT, tmp_path).code == 0
    again = ["fit", "--ckpt_path", str(only_run(tmp_path)), "--trainer.max_epochs", "2", "--wandb.project", "other"]
    finished = run_pipeline("train", again, tmp_path)
    assert finished.code == 0, finished.err
    assert "changed: trainer.max_epochs 1 → 2\n" in finished.out and "wandb" not in finished.out


def test_every_key_is_documented() -> None:
    page = (PROJECT / "docs" / "wandb.md").read_text()
    assert [name for name in OPTIONS if f"| `wandb.{name}` |" not in page] == []
