"""After kills, W&B has each row of metrics.csv exactly once: online, offline, and first the one, then the other."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import wandb

from pipelines.tracking.arrived import STEP, Arrived, Row, read_rows, split
from pipelines.tracking.wandb_log import copy_records, read_history, read_records
from tests.command_line import Finished, run_pipeline
from tests.helpers import only_run
from tests.wandb_server import Run, WandbServer

_FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.batch_size", "64", "--trainer.log_every_n_steps", "5",
    "--trainer.max_epochs", "4",
]  # fmt: skip


def _account(server: WandbServer, folder: Path) -> dict[str, str]:
    return {
        "WANDB_MODE": "online", "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.url, "NETRC": str(folder / "netrc"),
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.3", "WANDB_CONFIG_DIR": str(folder),
    }  # fmt: skip


def _kill_at(step: int) -> str:
    kill = f"{{class_path: tests.kill.KillAtStep, init_args: {{step: {step}}}}}"
    return f"--trainer.callbacks=[TrainingHealth,Templates,{kill}]"


def _killed_and_resumed(folder: Path, first: dict[str, str], second: dict[str, str], kill: int = 47) -> Path:
    killed = run_pipeline("train", [*_FIT, _kill_at(kill)], folder, **first)
    assert killed.code == -9, killed.err
    run = only_run(folder)
    _resume(run, folder, second)
    return run


def _resume(run: Path, folder: Path, environment: dict[str, str], *more: str) -> Finished:
    again = ["fit", "--ckpt_path", str(run), "--trainer.callbacks", "[TrainingHealth,Templates]", *more]
    resumed = run_pipeline("train", again, folder, **environment)
    assert resumed.code == 0, resumed.err
    return resumed


def _assert_once(tracked: Run, run: Path) -> None:
    """W&B has the rows of metrics.csv, each once, and the templates of each epoch once."""
    own = (STEP, "_step", "_runtime", "_timestamp")
    sent = [(row[STEP], {name: row[name] for name in row if name not in own}) for row in tracked.history]
    numbers = [(step, row) for step, row in sent if not any(isinstance(value, dict) for value in row.values())]
    assert [step for step, _ in numbers] == [row.step for row in read_rows(run / "metrics.csv")]
    for (_, metrics), row in zip(numbers, read_rows(run / "metrics.csv"), strict=True):
        assert metrics == pytest.approx(row.metrics)
    assert [row["_step"] for row in tracked.history] == list(range(len(tracked.history)))
    pictures = [step for step, row in sent if "templates" in row]
    assert len(pictures) == len(set(pictures))


@pytest.mark.slow
def test_a_run_killed_online_and_resumed_is_on_wandb_once(tmp_path: Path) -> None:
    server = WandbServer()
    online = _account(server, tmp_path)
    run = _killed_and_resumed(tmp_path, online, online)
    assert run_pipeline("train", ["test", "--ckpt_path", str(run)], tmp_path, **online).code == 0
    _resume(run, tmp_path, online, "--trainer.max_epochs", "5")  # after a test, which W&B's summary shows at its step
    server.die()
    _assert_once(server.runs[run.name], run)


@pytest.mark.slow
def test_a_run_killed_offline_and_resumed_arrives_once(tmp_path: Path) -> None:
    run = _killed_and_resumed(tmp_path, {"WANDB_MODE": "offline"}, {"WANDB_MODE": "offline"})
    server = WandbServer()
    sent = run_pipeline("compare", ["upload"], tmp_path, **_account(server, tmp_path))
    assert sent.code == 0, sent.out + sent.err
    server.die()
    _assert_once(server.runs[run.name], run)


def test_the_last_row_that_the_summary_shows_is_the_last_that_has_arrived() -> None:
    rows = [Row(4, {"loss": 3.0}), Row(9, {"loss": 2.0}), Row(9, {"val": 0.5}), Row(14, {"loss": math.nan})]
    assert split(rows, {}) == (Arrived(), rows)
    assert split(rows, {STEP: 4, "loss": 3.0}) == (Arrived(4), rows[1:])
    assert split(rows, {STEP: 9, "loss": 2.0}) == (Arrived(9, 1), rows[2:])
    assert split(rows, {STEP: 9, "loss": 2.0, "val": {"max": 0.7}}) == (Arrived(9), rows[3:])
    assert split(rows, {STEP: {"max": 14}, "loss": "NaN", "val": 0.5}) == (Arrived(14), [])
    assert split(rows, {STEP: 20, "loss": 1.0}) == (Arrived(20), [])  # metrics.csv is of an earlier attempt
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
    """Written by W&B's own client; long rows, so that records begin and end in any place of a block of 32 KiB."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=tmp_path, project="p", id="r")
    rows = [{"a": i, "text": "x" * (997 * i), "nested": {"b": 0.5}} for i in range(60)]
    for row in rows:
        run.log(row)
    run.finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/run-r.wandb")
    read = [{name: row[name] for name in ("a", "text", "nested.b")} for row in read_history(file)]
    assert read == [{"a": row["a"], "text": row["text"], "nested.b": 0.5} for row in rows]
    copy = tmp_path / "copy.wandb"
    assert copy_records(file, copy, lambda history: True) == (60, 0)
    assert copy.read_bytes() == file.read_bytes()
    assert copy_records(file, copy, lambda history: history.step.num >= 41) == (60, 41)
    assert [row["a"] for row in read_history(copy)] == list(range(41, 60))
    assert len(list(read_records(copy))) == len(list(read_records(file))) - 41
    for size in (7, 20, file.stat().st_size // 2):
        copy.write_bytes(file.read_bytes()[:size])
        assert len(list(read_records(copy))) < len(list(read_records(file)))
