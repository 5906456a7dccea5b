"""What `python -m pipelines.compare` sends to W&B: offline runs and a report."""

import fcntl
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from pipelines.compare import main
from pipelines.comparison.wandb_panels import sections
from pipelines.comparison.wandb_report import blocks, make_report
from pipelines.tracking.wandb_files import unsent_files
from tests.command_line import run_pipeline
from tests.pipelines.comparison.run_folders import compared, refused, write_run, write_sweep
from tests.wandb_server import WandbServer

_KEY = "0123456789" * 4
_FIT = ["fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--trainer.max_epochs", "1"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where nobody is logged in to W&B."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def track_offline(run: Path, *names: str) -> list[Path]:
    """Puts W&B's files of offline runs into a run's folder."""
    folders = []
    for name in names:
        folder = run / "wandb" / f"offline-run-20260101_10000{name}"
        folder.mkdir(parents=True)
        (folder / f"run-{name}.wandb").write_bytes(b"log")
        folders.append(folder)
    return folders


def fake_wandb(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `python -m wandb` that records its arguments.

    It refuses folders that end with 7, fails for those with 8 and finds no whole record in those with 6.
    """
    monkeypatch.setattr("pipelines.syncing.upload.send_missing_rows", lambda file, folder: None)  # asks a server
    (here / "wandb").mkdir()
    (here / "wandb" / "__init__.py").touch()
    (here / "wandb" / "__main__.py").write_text(
        "import sys; from pathlib import Path\n"
        "folder = Path(sys.argv[-1])\n"
        "with open('arguments', 'a') as file: print(*sys.argv[1:], file=file)\n"
        "if folder.name.endswith('7'): print('wandb: ERROR 403 forbidden', file=sys.stderr); sys.exit(0)\n"
        "if folder.name.endswith('6'):\n"
        "    print('wandb: ERROR Failed to read: transactionlog: error getting next record: EOF', file=sys.stderr)\n"
        "    sys.exit(0)\n"
        "if folder.name.endswith('8'): sys.exit(3)\n"
        "for file in folder.glob('*.wandb'): file.with_name(file.name + '.synced').touch()\n"
    )


def test_without_login_there_is_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(here / "logs" / "softmax" / "a")
    assert "You are not logged in to W&B, so nothing can be sent" in refused(capsys, "upload")
    assert "You are not logged in to W&B, so there can be no report" in refused(capsys, "a", "--wandb")


def test_a_key_in_netrc_is_a_login(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(here / "logs" / "softmax" / "a")
    (here / "netrc").write_text(f"machine api.wandb.ai login user password {_KEY}\n")
    main(["upload"])
    assert capsys.readouterr().out.startswith("Nothing to send")


def test_what_was_not_sent_yet_is_sent_once(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", _KEY)
    fake_wandb(here, monkeypatch)
    a, b = write_run(here / "logs" / "softmax" / "a"), write_run(here / "logs" / "svm" / "b", state="running")
    sent, unsent = track_offline(Path("logs/softmax/a"), "1", "2")
    (of_the_killed,) = track_offline(Path("logs/svm/b"), "3")
    (sent / "run-1.wandb.synced").touch()
    (a / "wandb" / "offline-run-empty").mkdir()
    (a / "wandb" / "run-online").mkdir()
    assert unsent_files(Path("logs/softmax/a")) == [unsent]
    with (b / "status.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        main(["upload"])
        assert capsys.readouterr().out == (
            f"skipped  logs/svm/b: still running; send it when it has ended\n1/1  {unsent}  sent\n1 sent, 0 failed\n"
        )
    main(["upload", "b"])
    assert capsys.readouterr().out == f"1/1  {of_the_killed}  sent\n1 sent, 0 failed\n"
    assert (here / "arguments").read_text() == f"sync --yes {unsent}\nsync --yes {of_the_killed}\n"
    main(["upload"])
    assert capsys.readouterr().out.startswith("Nothing to send")


def test_failures_are_reported_and_end_with_status_1(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", _KEY)
    fake_wandb(here, monkeypatch)
    refused = []
    for name, files in (("a", "79"), ("b", "8"), ("c", "69")):
        write_run(here / "logs" / "softmax" / name)
        refused += track_offline(Path("logs/softmax") / name, *files)
    with pytest.raises(SystemExit) as ended:
        main(["upload", "softmax"])
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        f"1/5  {refused[0]}  failed: ERROR 403 forbidden",
        f"2/5  {refused[1]}  failed: an earlier part of this run was not sent",
        f"3/5  {refused[2]}  failed: wandb sync ended with status 3",
        f"4/5  {refused[3]}  sent",  # killed before its first record: there is nothing in it
        f"5/5  {refused[4]}  sent",
        "2 sent, 3 failed",
    ]


def cut_within_last_record(content: bytes) -> bytes:
    """Cuts a W&B file, LevelDB's log format after 7 bytes, in the middle of its last record."""
    record, size, position = 0, 0, 7
    while position < len(content):
        if (left := 32_768 - position % 32_768) < 7:  # no room for another header in this block
            position += left
            continue
        record, size = position, int.from_bytes(content[position + 4 : position + 6], "little")
        position += 7 + size
    return content[: record + 7 + size // 2]


@pytest.mark.slow
def test_a_run_stopped_and_resumed_offline_arrives_whole_and_once(here: Path) -> None:
    """A killed start's file ends within a record; sent again, its rows would stand on the server twice."""
    settings = ["--trainer.log_every_n_steps", "1", "--trainer.callbacks", "null"]
    assert run_pipeline("train", [*_FIT, *settings], here, WANDB_MODE="offline").code == 0
    (run,) = (here / "logs" / "softmax").iterdir()
    for epochs in ("2", "3"):
        again = ["fit", "--ckpt_path", str(run), "--trainer.max_epochs", epochs]
        resumed = run_pipeline("train", again, here, WANDB_MODE="offline")
        assert resumed.code == 0, resumed.err
    (line,) = (line for line in resumed.out.splitlines() if line.startswith("send it to W&B"))
    parts = unsent_files(run)
    assert line.split()[-5:] == ["wandb", "sync", *(str(part.relative_to(here)) for part in parts)]
    (log,) = parts[-1].glob("*.wandb")
    log.write_bytes(cut_within_last_record(log.read_bytes()))  # as a kill leaves it
    server = WandbServer()
    account = {"WANDB_API_KEY": _KEY, "WANDB_BASE_URL": server.url}
    for last in ("3 sent, 0 failed", "Nothing to send: W&B has everything of these runs."):
        sent = run_pipeline("compare", ["upload"], here, **account)
        assert (sent.code, sent.out.splitlines()[-1]) == (0, last), sent.out + sent.err
    server.die()
    assert [row["trainer/global_step"] for row in server.history if "train/loss" in row] == [0, 1, 2, 3, 4, 5]
    assert [row["trainer/global_step"] for row in server.history if "val/loss" in row] == [1, 3, 5]


def test_a_run_tracked_offline_arrives(here: Path) -> None:
    assert run_pipeline("train", _FIT, here, WANDB_MODE="offline").code == 0
    server = WandbServer()
    (run,) = (here / "logs" / "softmax").iterdir()
    account = {"WANDB_API_KEY": _KEY, "WANDB_BASE_URL": server.url, "WANDB_MODE": "online"}
    sent = run_pipeline("compare", ["upload"], here, **account)
    assert (sent.code, sent.out.splitlines()[-1]) == (0, "1 sent, 0 failed"), sent.out + sent.err
    assert any("val/accuracy" in row for row in server.history) and server.config["model.reg"]["value"] == 0.01
    assert unsent_files(run) == []
    server.die()


class ReportServer(WandbServer):
    """Takes reports as well.

    Attributes:
        views: the report and the workspaces that were saved, as the client sent them, by name.
    """

    views: dict[str, dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.views = {}

    def _query(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        match name:
            case "GetDefaultEntity":
                return {"viewer": {"id": "1", "entity": "us"}}
            case "ProjectInternalId":
                return {"project": {"id": "p", "internalId": "UHJvamVjdDox"}}
            case "GetProjects":
                project = {"id": "p", "name": "lightning-231n", "entityName": "us", "isBenchmark": False}
                project |= {"createdAt": "2026-01-01T00:00:00", "__typename": "Project", "user": None}
                end = {"hasNextPage": False, "endCursor": None, "__typename": "PageInfo"}
                return {"models": {"pageInfo": end, "edges": [{"node": project}]}}
            case "upsertView" | "UpsertView2":
                self.views[variables["displayName"]] = variables
                project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
                return {
                    "upsertView": {"view": {**variables, "id": "VmlldzoxMjM=", "project": project}, "inserted": True}
                }
        return super()._query(name, variables)


def test_a_report_and_a_workspace_show_the_same_runs(here: Path) -> None:
    for i in range(3):
        write_run(here / "logs" / "softmax" / f"first-{i:04}", [i / 20, i / 10], lr=1000.0**-i, pictures=["templates"])
    table = here / "logs" / "softmax" / "first-0001" / "wandb" / "run-1" / "files" / "media" / "table"
    (table / "predictions").mkdir(parents=True)
    (table / "predictions" / "val_19_0f1e2d3c4b5a69788796.table.json").write_text("{}")
    write_sweep(here / "logs")
    server = ReportServer()
    account = {"WANDB_API_KEY": _KEY, "WANDB_BASE_URL": server.url, "WANDB_MODE": "online"}
    made = run_pipeline("compare", ["first", "--wandb"], here, **account)
    assert made.code == 0, made.err
    report, workspace = made.out.splitlines()[-2:]
    assert report == f"W&B report  {server.url}/us/lightning-231n/reports/Comparison:-first-try--VmlldzoxMjM="
    assert workspace.startswith(f"W&B workspace of softmax on Digits  {server.url}/us/lightning-231n?nw=")
    server.die()
    view = server.views["Comparison: first try"]
    assert view["type"] == "runs"
    (grid,) = (block for block in json.loads(view["spec"])["blocks"] if block["type"] == "panel-grid")
    (runs,) = grid["metadata"]["runSets"]
    (filter_,) = runs["filters"]["filters"]
    assert (filter_["key"], filter_["op"]) == ({"section": "run", "name": "name"}, "IN")  # W&B's name of a run's id
    assert filter_["value"] == ["first-0002", "first-0001", "first-0000"]
    by_metric = [{"key": {"section": "summary", "name": "val/accuracy"}, "ascending": False}]
    assert runs["sort"]["keys"] == by_metric
    assert runs["runFeed"]["columnOrder"] == ["run:state", "summary:val/accuracy", "config:optimizer.lr.value"]
    panels = grid["metadata"]["panelBankSectionConfig"]["panels"]
    kinds = ["Run History Line Plot"] * 2 + ["Media Browser", "Weave", "Parallel Coordinates Plot"]
    kinds += ["Parameter Importance", "Run Comparer"]
    assert [panel["viewType"] for panel in panels] == kinds
    assert [panel["config"]["metrics"] for panel in panels[:2]] == [["val/accuracy"], ["train/loss"]]
    assert panels[0]["config"]["xAxis"] == "trainer/global_step"  # as pipelines.tracking.wandb_run defines it
    assert panels[2]["config"]["mediaKeys"] == ["templates"] and "predictions/val" in json.dumps(panels[3])
    assert panels[4]["config"]["columns"] == [
        {"accessor": "config:optimizer.lr.value", "displayName": "lr", "log": True},
        {"accessor": "summary:val/accuracy"},
    ]

    view = server.views["softmax on Digits"]
    assert view["type"] == "project-view"
    saved = json.loads(view["spec"])["section"]
    (runs,) = saved["runSets"]
    assert [(each["key"]["name"], each["value"]) for each in runs["filters"]["filters"]] == [
        ("tags", ["softmax"]), ("tags", ["Digits"]),
    ]  # fmt: skip
    assert runs["sort"]["keys"] == by_metric and saved["settings"]["xAxis"] == "trainer/global_step"
    assert [(part["name"], len(part["panels"])) for part in saved["panelBankConfig"]["sections"]] == [
        ("Curves", 2), ("Pictures", 2), ("Settings", 3),
    ]  # fmt: skip


def test_a_report_of_several_topics_has_a_part_for_each_in_its_own_project(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_ENTITY", "us")
    write_run(here / "logs" / "gan" / "a", [30.0, 20.0], monitor="val/fid", mode="min", pictures=["losses", "samples"])
    write_run(here / "logs" / "knn" / "b", [0.5], data="Shapes")
    config = here / "logs" / "knn" / "b" / "config.yaml"
    config.write_text(config.read_text() + "wandb: {project: mine}\n")
    gan, knn = compared(here / "logs").groups
    assert [section.title for section in sections(gan)] == ["Pictures", "Curves", "Settings"]
    assert [section.title for section in sections(knn)] == ["Curves", "Settings"]
    assert type(sections(knn)[0].panels[0]).__name__ == "BarPlot"  # one value
    parts = blocks(compared(here / "logs"))
    assert [type(part).__name__ for part in parts] == ["TableOfContents", *["H1", "P", "PanelGrid"] * 2]
    assert [part.text for part in parts if type(part).__name__ == "H1"] == ["gan on Digits", "knn on Shapes"]
    runsets = [part.runsets[0] for part in parts if type(part).__name__ == "PanelGrid"]
    assert [(runset.entity, runset.project) for runset in runsets] == [("us", "lightning-231n"), ("us", "mine")]


def test_a_server_without_reports_is_named_in_a_sentence(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(here / "logs" / "softmax" / "a")
    monkeypatch.setenv("WANDB_ENTITY", "us")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")

    def save(report: object) -> None:
        raise RuntimeError('Unknown operation named "".')  # of a server by others

    monkeypatch.setattr("wandb_workspaces.reports.v2.Report.save", save)
    with pytest.raises(UserError) as raised:
        make_report(compared(here / "logs"))
    assert str(raised.value) == (
        "The W&B server 127.0.0.1:9 can't save a report, as W&B's own service can; the page shows the same runs "
        "without it."
    )


def test_a_server_that_refuses_the_report_is_explained_in_a_sentence(here: Path) -> None:
    write_run(here / "logs" / "softmax" / "a")
    server = WandbServer()
    account = {"WANDB_API_KEY": _KEY, "WANDB_BASE_URL": server.url, "WANDB_MODE": "online"}
    made = run_pipeline("compare", ["a", "--wandb"], here, **account)
    server.die()
    assert made.code == 2 and (here / "comparison.html").is_file()
    message = made.err.splitlines()[-1]
    assert message.startswith("error: W&B refused the report (") and "Traceback" not in made.err


def test_without_wandb_workspaces_there_is_one_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(here / "logs" / "softmax" / "a")
    monkeypatch.setenv("WANDB_API_KEY", _KEY)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert "needs wandb-workspaces; run `pip install wandb-workspaces`" in refused(capsys, "a", "--wandb")
