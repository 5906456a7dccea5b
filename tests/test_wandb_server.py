"""The stand-in for W&B's server, tried with the real client: what it answers is what the client understands.

The client's own models check each answer: a missing or mistyped field is an error of its own.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.wandb_server import WandbServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    """A server that the user is logged in to, with folders of its own for the client."""
    server = WandbServer()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in {"API_KEY": "a" * 40, "BASE_URL": server.url, "SILENT": "true", "CONSOLE": "off"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("CACHE_DIR", "DATA_DIR", "CONFIG_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield server
    wandb.teardown()
    server.die()


def _log(run_id: str, values: list[int], **init: Any) -> Any:
    run = wandb.init(project="mine", id=run_id, **init)
    for value in values:
        run.log({"a": value})
    run.finish()
    return run


def test_a_resumed_run_goes_on_after_its_rows_and_a_rewound_one_within_them(server: WandbServer) -> None:
    first = _log("r", [0, 1, 2], resume="allow")
    assert (first.resumed, first.starting_step) == (False, 0)
    again = _log("r", [3, 4], resume="allow")
    assert (again.resumed, again.starting_step) == (True, 3)
    assert [(row["_step"], row["a"]) for row in server.history] == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
    _log("r", [9], resume_from="r?_step=1")
    assert [(row["_step"], row["a"]) for row in server.history] == [(0, 0), (1, 1), (2, 9)]
    with pytest.raises(wandb.errors.UsageError):
        wandb.init(project="mine", id="r", resume="never")


def test_a_run_that_only_has_a_name_is_not_resumed(server: WandbServer) -> None:
    """A sweep's run exists before it is started; the client goes by the entry `t` of its own configuration."""
    _log("r", [0], resume="allow")
    del server.runs["r"].config["_wandb"]["value"]["t"]
    assert not _log("r", [1], resume="allow").resumed


def test_artifacts_have_versions_and_each_alias_is_at_one_of_them(server: WandbServer, tmp_path: Path) -> None:
    for content, aliases in ((b"one", ["best", "last"]), (b"two", ["last"]), (b"two", ["again"])):
        (tmp_path / "file").write_bytes(content)
        artifact = wandb.Artifact("model-r", type="model", metadata={"metric": 0.5})
        artifact.add_file(str(tmp_path / "file"))
        with wandb.init(project="mine", id="r", resume="allow") as run:
            run.log_artifact(artifact, aliases=aliases)
    first, second = server.artifacts.versions("model-r")
    assert first.aliases == {"best"} and second.aliases == {"last", "latest", "again"}  # the third is the second
    found = wandb.Api().artifact("us/mine/model-r:best")
    assert (found.version, found.type, found.metadata, found.aliases) == ("v0", "model", {"metric": 0.5}, ["best"])
    assert Path(found.download(), "file").read_bytes() == b"one"
    with wandb.init(project="mine", id="user") as run:
        assert run.use_artifact("model-r:last").version == "v1"
    assert server.runs["user"].used == ["artifact1"]
    for name in ("us/mine/model-r:v7", "us/other/model-r:best"):
        with pytest.raises(wandb.errors.CommError, match="not found"):
            wandb.Api().artifact(name)


def test_a_table_is_a_file_of_the_run_and_an_artifact(server: WandbServer) -> None:
    with wandb.init(project="mine", id="r") as run:
        run.log({"table": wandb.Table(columns=["a", "b"], data=[[1, 2], [3, 4]])})
    (name,) = (name for name in server.files if name.startswith("media/table/"))
    assert json.loads(server.files[name]) == {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}
    assert server.history[0]["table"]["_type"] == "table-file" and server.history[0]["table"]["path"] == name
    (table,) = server.artifacts.versions("run-r-table")
    assert table.given["artifactTypeName"] == "run_table" and json.loads(table.files["table.table.json"])["data"] == [
        [1, 2],
        [3, 4],
    ]


def test_a_preempted_run_says_so(server: WandbServer) -> None:
    run = wandb.init(project="mine", id="r")
    run.log({"a": 1})
    run.mark_preempting()
    run.finish(exit_code=143)
    assert server.runs["r"].state == "preempted"
    assert wandb.Api().run("us/mine/r").state == "preempted"


def test_a_project_name_that_the_service_refuses_is_refused(server: WandbServer) -> None:
    with pytest.raises((wandb.errors.Error, ValueError)):
        wandb.init(project="a/b", id="r", settings=wandb.Settings(init_timeout=5))
