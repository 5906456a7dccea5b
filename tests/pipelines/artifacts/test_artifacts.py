"""Checkpoints as artifacts of W&B: sent by a run, and used by the other commands from there or from their cache."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import wandb
from jsonargparse import Namespace

from common.errors import UserError
from pipelines.artifacts.downloaded import downloaded
from pipelines.artifacts.names import parse
from pipelines.artifacts.settings import use_artifacts
from pipelines.run.run_folder import RunFolder, find_run
from tests.command_line import run_pipeline
from tests.helpers import figures, only_run
from tests.wandb_server import WandbServer

_FIT = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "2", "--trainer.callbacks", "null"]


@pytest.fixture
def server() -> Iterator[WandbServer]:
    server = WandbServer()
    yield server
    with contextlib.suppress(OSError):
        server.die()


def _account(server: WandbServer, folder: Path) -> dict[str, str]:
    own = str(folder / "w")
    return {
        "WANDB_MODE": "online", "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.url, "NETRC": str(folder / "netrc"),
        "WANDB_CONFIG_DIR": own, "WANDB_DATA_DIR": own, "WANDB_CACHE_DIR": own,
        "XDG_CACHE_HOME": str(folder / "cache"), "WANDB_RUN_ID": "mine",
    }  # fmt: skip


@pytest.mark.slow
def test_every_command_takes_the_checkpoints_that_a_run_has_sent(server: WandbServer, tmp_path: Path) -> None:
    environment = _account(server, tmp_path)
    trained = run_pipeline("train", [*_FIT, "--wandb.log_model", "true"], tmp_path, **environment)
    assert trained.code == 0, trained.err
    run = RunFolder(only_run(tmp_path))
    (version,) = server.artifacts.versions("model-mine")
    assert version.aliases == {"best", "last", "latest"} and version.given["artifactTypeName"] == "model"
    assert version.files == {file.name: file.read_bytes() for file in (run.config, run.best, run.last)}
    metadata = version.metadata
    assert (metadata["monitor"], metadata["mode"], metadata["last_step"]) == ("val/accuracy", "max", 4)
    assert metadata["score"] == pytest.approx(max(figures(run.path, "val/accuracy")))
    assert metadata["best_step"] == torch.load(run.best, weights_only=True)["global_step"]
    assert metadata["settings"]["optimizer.lr"] == 0.003 and len(metadata["commit"]) == 40

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    del environment["WANDB_RUN_ID"]
    name = "wandb:us/lightning-231n/model-mine"
    tested = run_pipeline("train", ["test", "--ckpt_path", f"{name}:best"], elsewhere, **environment)
    here = run_pipeline("train", ["test", "--ckpt_path", str(run.path)], tmp_path, **environment)
    assert tested.code == 0, tested.err
    assert [line for line in tested.out.splitlines() if line.startswith("test/")] == [
        line for line in here.out.splitlines() if line.startswith("test/")
    ]
    exported = run_pipeline(
        "export", [f"{name}:last", "--format", "torchscript", "--out", "svm.pt"], elsewhere, **environment
    )
    assert exported.code == 0 and (elsewhere / "svm.pt").is_file(), exported.err
    longer = ["fit", "--ckpt_path", f"{name}:last", "--trainer.max_epochs", "3"]
    resumed = run_pipeline("train", longer, elsewhere, **environment)
    assert resumed.code == 0, resumed.err
    assert torch.load(RunFolder(only_run(elsewhere)).last, weights_only=True)["global_step"] == 6
    assert only_run(elsewhere).name != "mine"  # a run of its own, as from any checkpoint of another place

    server.die()
    offline = run_pipeline("train", ["validate", "--ckpt_path", f"{name}:v0"], elsewhere, **environment)
    assert offline.code == 0, offline.err
    refused = run_pipeline("train", ["validate", "--ckpt_path", f"{name}:best"], elsewhere, **environment)
    assert refused.code == 2
    assert refused.err == (
        f"error: {name}:best can't be downloaded, because W&B at {server.url[7:]} can't be reached; use a checkpoint "
        "on this machine, or a version such as :v0 that was downloaded before.\n"
    )
    (kept,) = (tmp_path / "cache").rglob("best.ckpt")
    kept.write_bytes(kept.read_bytes()[:-1])  # damaged: not used any more
    refused = run_pipeline("train", ["validate", "--ckpt_path", f"{name}:v0"], elsewhere, **environment)
    assert refused.code == 2 and "can't be reached" in refused.err


@pytest.mark.slow
def test_checkpoints_of_an_offline_run_are_kept_and_sent_later(server: WandbServer, tmp_path: Path) -> None:
    environment = _account(server, tmp_path)
    arguments = [*_FIT, "--wandb.log_model", "true", "--wandb.mode", "offline"]
    trained = run_pipeline("train", arguments, tmp_path, **environment)
    assert trained.code == 0, trained.err
    run = RunFolder(only_run(tmp_path))
    expected = {file.name: file.read_bytes() for file in (run.config, run.best, run.last)}
    run.last.unlink()  # the copy that was kept is sent
    sent = run_pipeline("compare", ["upload"], tmp_path, **environment)
    assert sent.code == 0, sent.out + sent.err
    (version,) = server.artifacts.versions("model-mine")
    assert version.aliases == {"best", "last", "latest"} and version.files == expected


@pytest.mark.slow
def test_each_epoch_is_a_version_if_all_are_asked_for(server: WandbServer, tmp_path: Path) -> None:
    arguments = [*_FIT, "--wandb.log_model", "all"]
    assert run_pipeline("train", arguments, tmp_path, **_account(server, tmp_path)).code == 0
    versions = server.artifacts.versions("model-mine")
    assert [version.metadata["last_step"] for version in versions] == [2, 4]
    assert [version.aliases for version in versions] == [set(), {"best", "last", "latest"}]


@pytest.mark.slow
def test_a_wandb_logger_of_the_user_s_sends_the_same(server: WandbServer, tmp_path: Path) -> None:
    """Lightning's own would make an artifact of each file, and give the alias best to both."""
    own = ["--trainer.logger", "WandbLogger", "--trainer.logger.log_model", "true", "--trainer.logger.project", "p"]
    trained = run_pipeline("train", [*_FIT, *own], tmp_path, **_account(server, tmp_path))
    assert trained.code == 0, trained.err
    run = RunFolder(only_run(tmp_path))
    (version,) = server.artifacts.by_id.values()
    assert version.given["projectName"] == "p" and version.aliases == {"best", "last", "latest"}
    assert version.files == {file.name: file.read_bytes() for file in (run.config, run.best, run.last)}


@pytest.fixture
def here(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, logged in to the server."""
    for name, value in _account(server, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    return tmp_path


def _log(name: str, kind: str, metadata: dict[str, str], **files: str) -> None:
    artifact = wandb.Artifact(name, type=kind, metadata=metadata)
    for file, content in files.items():
        with artifact.new_file(file.replace("_", ".")) as opened:
            opened.write(content)
    with wandb.init(project="p", id="other") as run:
        run.log_artifact(artifact, aliases=["best"])


def test_an_artifact_that_is_not_there_or_not_ours_is_refused_in_a_sentence(here: Path, server: WandbServer) -> None:
    address = server.url.removeprefix("http://")
    with pytest.raises(UserError, match=f"^There is no artifact us/p/model-x:best at {address}; --wandb.log_model"):
        downloaded("wandb:us/p/model-x:best")
    _log("data", "dataset", {}, images_txt="1")
    with pytest.raises(UserError, match=r"^wandb:us/p/data:best is of type dataset with the file"):
        downloaded("wandb:us/p/data:best")
    _log("model-y", "model", {"topic": "../../x", "run_id": "r"}, config_yaml="a: 1", best_ckpt="x")
    with pytest.raises(UserError, match=r"metadata of wandb:us/p/model-y:best is '../../x'"):
        downloaded("wandb:us/p/model-y:best")
    _log("model-z", "model", {"topic": "svm", "run_id": "r"}, config_yaml="a: 1", best_ckpt="x")
    server.artifacts.versions("model-z")[0].aliases.add("last")
    with pytest.raises(UserError, match=r"model-z:last has no last\.ckpt"):
        downloaded("wandb:us/p/model-z:last")
    run, checkpoint = find_run("wandb:us/p/model-z:best")
    assert (run.topic, run.run_id, checkpoint.read_text()) == ("svm", "r", "x")
    assert json.loads((run.path / "digests.json").read_text()).keys() == {"config.yaml", "checkpoints/best.ckpt"}


def test_settings_of_models_and_callbacks_take_artifacts(here: Path) -> None:
    _log("model-s", "model", {"topic": "simclr", "run_id": "r"}, config_yaml="a: 1", best_ckpt="x")
    probe = Namespace(class_path="LinearProbe", init_args=Namespace(checkpoint="wandb:us/p/model-s:best", width=3))
    config = Namespace(
        model=probe, trainer=Namespace(callbacks=[Namespace(judge="wandb:us/p/model-s:v0")]), ckpt_path="x"
    )
    use_artifacts(config)
    assert Path(probe.init_args.checkpoint).read_text() == "x" and probe.init_args.width == 3
    assert Path(config.trainer.callbacks[0].judge, "config.yaml").read_text() == "a: 1"
    assert config.ckpt_path == "x"


def test_without_an_account_there_is_one_sentence(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(UserError, match="where you are not logged in; run `wandb login` first"):
        downloaded("wandb:us/p/model-x:best")


@pytest.mark.parametrize(
    "name", ["wandb:", "wandb:model-x", "wandb:us/p/model-x", "wandb:us/p/../x:best", "wandb:a/b/c:d:e"]
)
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="does not name an artifact; write wandb:ENTITY/PROJECT/ARTIFACT:ALIAS"):
        parse(name)
    assert parse("wandb:us/my project/model-x.1:v3") == ("us/my project/model-x.1", "v3")
