"""After kills, W&B has each row of metrics.csv exactly once: online, offline, and first the one, then the other."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import wandb

from pipelines.syncing.arrived import STEP, Arrived, Row, read_rows, split
from pipelines.syncing.wandb_log import copy_records, has_ended, read_history, read_records
from tests.command_line import run_pipeline
from tests.pipelines.syncing.killed_runs import account, assert_once, killed_and_resumed, resume
from tests.wandb_server import WandbServer


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 3.0], ids=["nothing sent", "all sent"])
def test_a_run_killed_online_and_resumed_is_on_wandb_once(tmp_path: Path, seconds: float) -> None:
    server = WandbServer()
    online = account(server, tmp_path)
    run = killed_and_resumed(tmp_path, online, online, seconds)
    assert run_pipeline("train", ["test", "--ckpt_path", str(run)], tmp_path, **online).code == 0
    resume(run, tmp_path, online, "--trainer.max_epochs", "5")  # after a test, which W&B's summary shows at its step
    server.die()
    assert_once(server.runs[run.name], run)


@pytest.mark.slow
def test_a_run_killed_offline_and_resumed_arrives_once(tmp_path: Path) -> None:
    run = killed_and_resumed(tmp_path, {"WANDB_MODE": "offline"}, {"WANDB_MODE": "offline"})
    server = WandbServer()
    sent = run_pipeline("compare", ["upload"], tmp_path, **account(server, tmp_path))
    assert sent.code == 0, sent.out + sent.err
    server.die()
    assert_once(server.runs[run.name], run)


def test_the_last_row_that_the_summary_shows_is_the_last_that_has_arrived() -> None:
    rows = [Row(4, {"loss": 3.0}), Row(9, {"loss": 2.0}), Row(9, {"val": 0.5}), Row(14, {"loss": math.nan})]
    assert split(rows, {}) == (Arrived(), rows)
    assert split(rows, {STEP: 4, "loss": 3.0}) == (Arrived(4), rows[1:])
    assert split(rows, {STEP: 9, "loss": 2.0}) == (Arrived(9, 1), rows[2:])
    assert split(rows, {STEP: 9, "loss": 2.0, "val": {"max": 0.7}}) == (Arrived(9), rows[3:])
    assert split(rows, {STEP: {"max": 14}, "loss": "NaN", "val": 0.5}) == (Arrived(14), [])
    assert split(rows, {STEP: 20, "loss": 1.0}) == (Arrived(20), [])  # metrics.csv is of an earlier attempt
    assert split(rows, {STEP: 0, "templates": {}}) == (Arrived(0), rows)  # a picture before the first row
    tested = [*rows, Row(4, {"test/loss": 1.0})]  # of best.ckpt, after the training
    assert split(tested, {STEP: 4, "loss": "NaN", "val": 0.5, "test/loss": 1.0}) == (Arrived(4, None), [])


def test_a_row_is_left_out_if_it_has_arrived() -> None:
    arrived = Arrived(9, 1)
    logged: list[tuple[int, dict[str, Any]]] = [
        (4, {"loss": 1.0}), (9, {"picture": [object()]}), (9, {"loss": 1.0}), (9, {"val": 1.0}), (14, {"loss": 1.0})
    ]  # fmt: skip
    assert [arrived.has(step, metrics) for step, metrics in logged] == [True, False, True, False, False]
    whole = Arrived(9)
    assert [whole.has(step, metrics) for step, metrics in logged] == [True, True, True, True, False]


def test_rows_of_a_damaged_file_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    assert read_rows(file) == []
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([["step", "a", "b"], [1, 2.5, ""], ["x", 1, 1], [2, "", 3], [3, "y", ""]])
        opened.write("4,5")
    assert read_rows(file) == [Row(1, {"a": 2.5}), Row(2, {"b": 3.0})]


def test_wandb_s_file_is_read_and_shortened_record_by_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's client writes the file, with rows so long that records cross the ends of the 32 KiB blocks."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=tmp_path, project="p", id="r")
    rows = [{"a": i, "text": "x" * (997 * i), "nested": {"b": 0.5}} for i in range(60)]
    for row in rows:
        run.log(row)
    run.finish()
    wandb.teardown()  # its service has written the file only now
    (file,) = tmp_path.glob("wandb/offline-run-*/run-r.wandb")
    read = [{name: row[name] for name in ("a", "text", "nested.b")} for row in read_history(file)]
    assert read == [{"a": row["a"], "text": row["text"], "nested.b": 0.5} for row in rows]
    copy = tmp_path / "copy.wandb"
    assert copy_records(file, copy, lambda history: True) == (60, 0)
    assert copy.read_bytes() == file.read_bytes()
    assert copy_records(file, copy, lambda history: history.step.num >= 41) == (60, 41)
    assert [row["a"] for row in read_history(copy)] == list(range(41, 60))
    assert has_ended(copy)
    for size in (7, 20, file.stat().st_size // 2):
        copy.write_bytes(file.read_bytes()[:size])
        assert len(list(read_records(copy))) < len(list(read_records(file)))
