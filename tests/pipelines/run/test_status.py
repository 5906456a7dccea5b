import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def test_a_finished_run_stays_finished_until_its_resume_makes_a_step(tmp_path: Path) -> None:
    first = StatusFile(tmp_path)
    first.end("finished")
    finished = read_status(tmp_path)
    failing = StatusFile(tmp_path)
    assert read_status(tmp_path).state == "running"
    failing.end("failed", "ValueError: no")
    assert read_status(tmp_path) == finished
    longer = StatusFile(tmp_path)
    longer.begin()
    longer.end("stopped", "Ctrl-C")
    assert (read_status(tmp_path).state, read_status(tmp_path).reason) == ("stopped", "Ctrl-C")
    failing = StatusFile(tmp_path)  # what was not finished takes the reason of the failure
    failing.end("failed", "ValueError: no")
    assert (read_status(tmp_path).state, read_status(tmp_path).reason) == ("failed", "ValueError: no")


def test_a_finished_run_whose_resume_was_killed_before_its_first_step_is_still_finished(tmp_path: Path) -> None:
    StatusFile(tmp_path).end("finished")
    finished = read_status(tmp_path)
    for begin, state in ((False, "finished"), (True, "killed")):
        script = f"import os, sys; sys.path.insert(0, {str(PROJECT)!r}); from pathlib import Path\n"
        script += "from pipelines.run.status import StatusFile\n"
        script += f"s = StatusFile(Path('.')); {begin} and s.begin(); os.kill(os.getpid(), 9)"
        assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == -9
        assert read_status(tmp_path).state == state
        assert begin or read_status(tmp_path) == finished


def test_the_status_is_written_in_place_so_that_no_reader_and_no_full_disk_loses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, file = StatusFile(tmp_path), tmp_path / "status.json"
    identity, seen, pwrite = file.stat().st_ino, [], os.pwrite

    def observed(descriptor: int, content: bytes, at: int) -> int:
        written = pwrite(descriptor, content, at)
        seen.append(json.loads(file.read_text())["state"])  # before what is longer is cut off
        return written

    monkeypatch.setattr(os, "pwrite", observed)
    status.end("failed", "x" * 1_000_000)
    assert len(read_status(tmp_path).reason or "") == 2000  # within one block of the disk
    again = StatusFile(tmp_path)
    again.end("finished")
    give_reason(tmp_path, "too late")
    assert seen == ["failed", "running", "finished"]
    assert file.stat().st_ino == identity


def test_an_end_that_cannot_be_written_is_reported_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = StatusFile(tmp_path)

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    status.end("failed", "the first error")
    assert capsys.readouterr().err == f"warning: {tmp_path}/status.json can't be written (No space left on device).\n"
    monkeypatch.undo()
    assert read_status(tmp_path).state == "killed"


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
