import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipelines.run.status import StatusFile, give_reason, read_status
from tests.command_line import PROJECT, run_pipeline, start_pipeline
from tests.helpers import only_run

_FIT = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.logger", "false"]


def test_status_of_a_finished_run_has_its_command_and_times(tmp_path: Path) -> None:
    assert run_pipeline("train", _FIT, tmp_path).code == 0
    status = read_status(only_run(tmp_path))
    assert status.state == "finished" and status.reason is None
    assert status.command.startswith("python -m pipelines.train fit --config softmax")
    assert status.started is not None and status.ended is not None and status.started <= status.ended


def test_running_and_killed_are_distinguished_immediately(tmp_path: Path) -> None:
    script = f"import sys, time; sys.path.insert(0, {str(PROJECT)!r}); from pathlib import Path\n"
    script += "from pipelines.run.status import StatusFile\n"
    script += "s = StatusFile(Path('.')); print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert read_status(tmp_path).state == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert read_status(tmp_path).state == "killed"


def test_the_first_ending_counts(tmp_path: Path) -> None:
    status = StatusFile(tmp_path)
    status.end("failed", "ValueError: no")
    status.end("finished")
    assert (read_status(tmp_path).state, read_status(tmp_path).reason) == ("failed", "ValueError: no")
    assert read_status(tmp_path).pid == os.getpid()


def test_a_folder_without_a_readable_status_is_unknown(tmp_path: Path) -> None:
    assert read_status(tmp_path).state == "unknown"
    for text in ("", "{", "[]", json.dumps({"color": "red"})):
        (tmp_path / "status.json").write_text(text)
        assert read_status(tmp_path).state == "unknown"


def test_ctrl_c_stops_and_does_not_fail(tmp_path: Path) -> None:
    arguments = [*_FIT[:-4], "--trainer.max_epochs", "100000", "--trainer.logger", "false"]
    process = start_pipeline("train", arguments, tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("logs/softmax/*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.finish(60).code != 0
    assert read_status(only_run(tmp_path)).state == "stopped"


def test_a_running_run_is_not_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "softmax" / "mine"
    folder.mkdir(parents=True)
    running = StatusFile(folder)
    finished = run_pipeline("train", _FIT, tmp_path, WANDB_RUN_ID="mine")
    assert finished.code == 2 and "mine is still running; stop it first" in finished.err
    assert read_status(folder).state == "running"
    running.end("finished")


def test_a_damaged_checkpoint_deletes_no_other_file_of_its_run(tmp_path: Path) -> None:
    assert run_pipeline("train", _FIT, tmp_path).code == 0
    run = only_run(tmp_path)
    (run / "checkpoints" / "last.ckpt").write_bytes(b"cut short")
    before = {path for path in run.rglob("*") if path.is_file()}
    assert run_pipeline("train", ["fit", "--ckpt_path", str(run)], tmp_path).code == 2
    assert {path for path in run.rglob("*") if path.is_file()} == before


def test_a_run_restarted_in_its_folder_drops_the_rows_of_its_first_attempt(tmp_path: Path) -> None:
    assert run_pipeline("train", _FIT, tmp_path, WANDB_RUN_ID="mine").code == 0
    metrics = only_run(tmp_path) / "metrics.csv"
    first = metrics.read_text()
    assert run_pipeline("train", _FIT, tmp_path, WANDB_RUN_ID="mine").code == 0
    assert metrics.read_text() == first


def test_a_reason_can_be_recorded_after_a_run_was_stopped(tmp_path: Path) -> None:
    status = StatusFile(tmp_path)
    give_reason(tmp_path, "not yet")
    assert read_status(tmp_path).reason is None  # it still runs
    status.end("stopped", "SIGTERM")
    give_reason(tmp_path, "the sweep: other trials did better")
    assert (read_status(tmp_path).state, read_status(tmp_path).reason) == (
        "stopped",
        "the sweep: other trials did better",
    )
    (tmp_path / "status.json").write_text(json.dumps({"state": "finished"}))
    give_reason(tmp_path, "too late")
    assert read_status(tmp_path).reason is None
