"""`python -m pipelines.compare --watch`: the runs it reads again, the page that reloads itself, and how it ends."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.errors import UserError
from pipelines.compare import main
from pipelines.comparison import run_cache, runs
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.runs import Run
from pipelines.comparison.status_line import StatusLine
from pipelines.comparison.watching import watch
from pipelines.search.locks import LauncherLock
from pipelines.tracking.curves import Curve
from tests.command_line import PROJECT
from tests.pipelines.comparison.run_folders import RunningRun, order, refused, write_run, write_sweep


def watched(targets: list[Path], out: Path, *steps: Callable[[], object], sort: str | None = None) -> Comparison | None:
    """Watches runs; each step happens during one of the waits, of which there are no more than steps."""
    remaining = iter(steps)

    def sleep(seconds: float) -> None:
        next(remaining)()

    return watch([str(target) for target in targets], out, sort, 5.0, sleep=sleep)


def data_of(page: Path) -> dict[str, Any]:
    """The data that the scripts of a page draw."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    data: dict[str, Any] = json.loads(text)
    return data


def group_of(page: Path) -> dict[str, Any]:
    """The data of the only group."""
    (group,) = data_of(page)["groups"]
    return dict(group)


def interrupt() -> None:
    raise KeyboardInterrupt


# ----------------------------------------------------------------------------------------------------------- watching


def test_the_page_follows_the_runs_and_only_changed_ones_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read: list[str] = []
    original = run_cache.read_run

    def read_run(folder: Path) -> Run:
        read.append(folder.name)
        return original(folder)

    monkeypatch.setattr(run_cache, "read_run", read_run)
    logs, page = tmp_path / "softmax", tmp_path / "comparison.html"
    write_run(logs / "done", [0.8])
    run = RunningRun(logs / "new", 0.5)
    inodes: list[int] = []

    def first() -> None:
        assert sorted(read) == ["done", "new"]
        assert data_of(page)["reload"] == 5 and [run["best"] for run in group_of(page)["runs"]] == [0.8, 0.5]
        inodes.append(page.stat().st_ino)

    def unchanged() -> None:
        assert len(read) == 2 and page.stat().st_ino == inodes[0]
        run.log(0.9)

    def grown() -> None:
        assert read[2:] == ["new"]
        assert [(run["id"], run["best"]) for run in group_of(page)["runs"]] == [("new", 0.9), ("done", 0.8)]
        write_run(logs / "late", [0.1])

    def joined() -> None:
        assert read[3:] == ["late"] and len(group_of(page)["runs"]) == 3
        run.log(0.95)
        run.end()

    comparison = watched([logs], page, first, unchanged, grown, joined)
    assert comparison is not None and order(comparison) == ["new", "done", "late"]
    (group,) = comparison.groups
    best = group.best(group.runs[0])
    assert best is not None and best.value == 0.95  # what a run logs last counts
    assert "running" not in comparison.states and read[4:] == ["new"]
    said = [line[10:] if line[2:3] == ":" else line for line in capsys.readouterr().out.splitlines()]
    assert said[0].startswith(f"page  {page}  (open it")
    assert said[1:] == [
        f"{logs}: 2 runs: 1 running, 1 finished; best done, val/accuracy 0.8000",
        f"{logs}: 2 runs: 1 running, 1 finished; best new, val/accuracy 0.9000",
        f"{logs}: 3 runs: 1 running, 2 finished; best new, val/accuracy 0.9000",
    ]


def test_what_a_run_logs_while_it_is_read_and_ends_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunningRun(tmp_path / "softmax" / "a", 0.5)
    original = runs.read_curves

    def read_curves(file: Path) -> dict[str, Curve]:
        curves = original(file)
        if curves["val/accuracy"].last.value == 0.5:
            run.log(0.75)
            run.end()
        return curves

    monkeypatch.setattr(runs, "read_curves", read_curves)
    comparison = watched([tmp_path / "softmax"], tmp_path / "page.html", lambda: None)
    assert comparison is not None and comparison.runs[0].curves["val/accuracy"].last.value == 0.75


def test_a_killed_run_ends_the_watching(tmp_path: Path) -> None:
    run = RunningRun(tmp_path / "softmax" / "a", 0.5)
    comparison = watched([tmp_path / "softmax"], tmp_path / "page.html", run.kill)
    assert comparison is not None and comparison.states == {"killed": 1}


def test_a_sweep_is_watched_from_before_its_first_run_until_its_launchers_have_ended(tmp_path: Path) -> None:
    sweep, page = write_sweep(tmp_path / "logs", "first"), tmp_path / "page.html"
    (sweep / "launchers").mkdir()
    launcher = LauncherLock(sweep / "launchers")

    def no_run_yet() -> None:
        assert not page.exists()
        write_run(tmp_path / "logs" / "softmax" / "first-0000")

    def between_two_trials() -> None:
        assert data_of(page)["reload"] == 5
        write_run(tmp_path / "logs" / "softmax" / "first-0001", [0.9])
        launcher.release()

    comparison = watched([sweep], page, no_run_yet, between_two_trials)
    assert comparison is not None and order(comparison) == ["first-0001", "first-0000"]


def test_a_sweep_that_nothing_will_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="The sweep first has no runs yet; start its trials first"):
        watched([write_sweep(tmp_path / "logs")], tmp_path / "page.html")


def test_ctrl_c_ends_it_with_the_runs_as_they_were_last(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "logs", "first")
    (sweep / "launchers").mkdir()
    launcher = LauncherLock(sweep / "launchers")
    assert watched([sweep], tmp_path / "page.html", interrupt) is None
    run = RunningRun(tmp_path / "logs" / "softmax" / "first-0000", 0.5)
    comparison = watched([sweep], tmp_path / "page.html", interrupt)
    assert comparison is not None and comparison.states == {"running": 1}
    run.kill()
    launcher.release()


def test_the_metric_to_sort_by_may_be_logged_later(tmp_path: Path) -> None:
    run, page = RunningRun(tmp_path / "softmax" / "a"), tmp_path / "page.html"

    def log() -> None:
        assert group_of(page)["metric"] == "val/accuracy"
        (run.folder / "metrics.csv").write_text("step,train/loss\n4,0.5\n")

    def other_metric() -> None:
        assert group_of(page)["metrics"] == ["train/loss"]
        (run.folder / "metrics.csv").write_text("step,train/loss,val/loss\n4,0.5,\n9,,0.7\n")
        run.kill()

    comparison = watched([tmp_path / "softmax"], page, log, other_metric, sort="val/loss")
    assert comparison is not None and comparison.groups[0].ranking_metric is not None
    assert comparison.groups[0].ranking_metric.name == "val/loss"
    with pytest.raises(UserError, match="No run has the metric 'val/los'; did you mean val/loss"):
        watched([tmp_path / "softmax"], page, sort="val/los")


# ------------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize("value", ["0", "0.5", "-3", "nan", "inf", "1e6", "often", "logs/softmax"])
def test_an_interval_out_of_range_is_refused(capsys: pytest.CaptureFixture[str], value: str) -> None:
    said = refused(capsys, "logs", f"--watch={value}")
    assert said == (
        f"error: --watch is {value}; it must be a number of seconds in [1, 86400], or have no value and be the last "
        "option.\n"
    )


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty contains neither config.yaml nor runs; give" in refused(capsys, str(tmp_path / "empty"), "--watch")


def test_where_nothing_is_running_the_page_is_final_immediately(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "softmax" / "a")
    main([str(tmp_path / "softmax"), "--out", str(tmp_path / "page.html"), "--watch"])
    assert data_of(tmp_path / "page.html")["reload"] is None
    assert "softmax on Digits, 1 run: 1 finished; ranked by val/accuracy" in capsys.readouterr().out


def test_ctrl_c_leaves_a_final_page_and_the_table(tmp_path: Path) -> None:
    run = RunningRun(tmp_path / "softmax" / "a", 0.25)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.compare", "softmax", "--watch", "60"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("page  comparison.html")
    assert "1 run: 1 running; best a, val/accuracy 0.2500" in process.stdout.readline()
    assert data_of(tmp_path / "comparison.html")["reload"] == 60
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    run.kill()
    assert (process.returncode, err) == (0, "")
    assert "softmax: softmax on Digits, 1 run: 1 running; ranked by val/accuracy" in out and "0.2500" in out
    assert data_of(tmp_path / "comparison.html")["reload"] is None


def test_the_status_is_one_line_on_a_terminal_and_a_line_for_each_change_elsewhere() -> None:
    terminal = io.StringIO()
    with StatusLine(Console(file=terminal, force_terminal=True, width=30)) as line:
        line.print("page [x]")
        for status in ("1 run: 1 running", "2 runs: 1 running, 1 finished", "2 runs: 1 running, 1 finished"):
            line.show(status)
    kept, drawn = terminal.getvalue().split("\n", 1)
    assert kept.endswith("page [x]") and drawn.count("\x1b[2K") == 4  # drawn twice, again at the end, and erased
    assert "2 runs: 1 running, …" in drawn and "finished" not in drawn and drawn.endswith("\x1b[1A\x1b[2K")
    plain = io.StringIO()
    with StatusLine(Console(file=plain, width=30)) as line:
        for status in ("1 run: 1 running", "2 runs: 1 running, 1 finished", "2 runs: 1 running, 1 finished"):
            line.show(status)
    assert [text[10:] for text in plain.getvalue().splitlines()] == [
        "1 run: 1 running",
        "2 runs: 1 running, 1 finished",
    ]
