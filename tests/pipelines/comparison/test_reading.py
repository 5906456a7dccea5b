"""Reading the folders of runs, whole or damaged."""

import fcntl
import io
from pathlib import Path

import pytest

from pipelines.compare import main
from pipelines.comparison.runs import read_run
from pipelines.comparison.terminal_table import print_table
from pipelines.console.formatting import figure
from pipelines.tracking.curves import Curve, Point
from tests.command_line import run_pipeline
from tests.pipelines.comparison.run_folders import compared, write_run


def test_a_run_is_read_from_its_files(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "softmax" / "a", [0.5, 0.75, 0.7], pictures=["templates", "confusion/val"]))
    assert (run.run_id, run.topic, run.status.state, run.seconds) == ("a", "softmax", "finished", 200.0)
    assert run.settings["model"] == "SoftmaxRegression" and run.settings["model.reg"] == 0.01
    assert list(run.curves) == ["val/accuracy", "train/loss"]
    accuracy = run.curves["val/accuracy"]
    assert accuracy.points == (Point(9, 0, 0.5), Point(19, 1, 0.75), Point(29, 2, 0.7))
    assert accuracy.best("maximize") == Point(19, 1, 0.75) and accuracy.best("minimize") == Point(9, 0, 0.5)
    assert accuracy.last == Point(29, 2, 0.7)
    assert {name: file.name for name, file in run.pictures.items()} == {
        "confusion/val": "00000030.png", "templates": "00000030.png",
    }  # fmt: skip
    assert run.problems == () and run.remark == ""


def test_a_real_run_is_read(tmp_path: Path) -> None:
    arguments = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--data.flip", "false"]
    arguments += ["--data.batch_size", "64"]  # 20 steps: the rate comes down within the epoch
    assert run_pipeline("train", arguments, tmp_path).code == 0
    finished = run_pipeline("compare", ["logs"], tmp_path)
    assert finished.code == 0, finished.err
    (run,) = compared(tmp_path / "logs").runs
    best = run.curves["val/accuracy"].best("maximize")
    assert run.status.state == "finished" and best is not None and 0.5 < best.value < 1 and best.epoch == 0
    assert set(run.pictures) >= {"templates", "confusion/val"}
    assert run.run_id in finished.out and f"{best.value:.4f}" in finished.out
    assert "1 run: 1 finished; ranked by val/accuracy" in finished.out
    assert run.run_id in (tmp_path / "comparison.html").read_text()


def test_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [0.5, 0.75])
    file = folder / "metrics.csv"
    file.write_text(file.read_text() + "29,0.9\n39,0.99,3")
    assert [point.value for point in read_run(folder).curves["val/accuracy"].points] == [0.5, 0.75]
    file.write_text(file.read_text().rsplit("\n", 1)[0] + "\n39,0.99,3,")  # without a line end: 0.9 or 0.99?
    assert read_run(folder).curves["val/accuracy"].last.value == 0.75


def test_values_that_are_not_finite_are_never_best_but_may_be_last(tmp_path: Path) -> None:
    curve = read_run(write_run(tmp_path / "a", ["inf", 0.5, "nan"])).curves["val/accuracy"]
    assert curve.best("maximize") == curve.best("minimize") == Point(19, 1, 0.5)
    assert figure(curve.last.value) == "nan"
    assert read_run(write_run(tmp_path / "b", ["nan"])).curves["val/accuracy"].best("maximize") is None


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.yaml", None, "config.yaml is missing"),
        ("config.yaml", "a: [", "config.yaml can't be read"),
        ("config.yaml", "- 1\n- 2\n", "config.yaml can't be read"),
        ("config.yaml", "model: {class_path: 7}\n", "config.yaml can't be read"),
        ("config.yaml", "a: !!python/object/apply:os.getcwd []\n", "config.yaml can't be read"),
        ("metrics.csv", None, "metrics.csv is missing"),
        ("metrics.csv", "", "metrics.csv is empty"),
        ("metrics.csv", "step,val/accuracy\n", "metrics.csv has no values yet"),
        ("metrics.csv", "a,b\n1,2\n", "metrics.csv has no column step"),
        ("metrics.csv", "\x00\xff\x01,\n,,,\n", "metrics.csv has no column step"),
        ("metrics.csv", "step,val/accuracy\nten,x\n1,?\n,\n", "metrics.csv has no values yet"),
    ],
)
def test_damaged_files_are_described_not_raised(tmp_path: Path, name: str, content: str | None, problem: str) -> None:
    good = write_run(tmp_path / "softmax" / "good")
    bad = write_run(tmp_path / "softmax" / "bad", [0.9])
    (bad / name).unlink() if content is None else (bad / name).write_text(content, encoding="latin-1")
    assert read_run(bad).problems == (problem,)
    comparison = compared(tmp_path / "softmax")
    assert {run.folder for run in comparison.runs} == {good, bad}
    printed = io.StringIO()
    print_table(comparison, printed)
    assert f"bad: {problem}" in printed.getvalue()


@pytest.mark.parametrize("digits", [16, 308, 309, 400, 4300, 5000])
def test_an_integer_of_any_length_in_a_configuration_costs_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: int
) -> None:
    write_run(tmp_path / "softmax" / "a", [0.5])
    longest = write_run(tmp_path / "softmax" / "b", [0.75])
    config = (longest / "config.yaml").read_text()
    (longest / "config.yaml").write_text(config.replace("batch_size: 32", f"batch_size: {'9' * digits}"))
    monkeypatch.chdir(tmp_path)
    main(["softmax"])
    said = capsys.readouterr().out
    assert "2 runs: 2 finished" in said and "0.5000" in said and "0.7500" in said
    assert ("config.yaml can't be read" in said) == (digits == 5000)  # more than Python reads as a number


@pytest.mark.parametrize("content", [None, "", "{", '{"state": "asleep"}', '{"state": "finished", "started": 7}'])
def test_a_run_without_a_valid_status_is_unknown(tmp_path: Path, content: str | None) -> None:
    folder = write_run(tmp_path / "a")
    (folder / "status.json").unlink() if content is None else (folder / "status.json").write_text(content)
    run = read_run(folder)
    assert (run.status.state, run.seconds) == ("unknown", None)


def test_running_and_killed_runs_are_distinguished(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "softmax" / "a", state="running")
    assert read_run(folder).status.state == "killed"
    with (folder / "status.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run = read_run(folder)
        assert run.status.state == "running" and (run.seconds or 0) > 200


def test_thinning_keeps_ends_and_extremes() -> None:
    points = tuple(Point(i, None, float(i % 7)) for i in range(5000))
    spiked = (*points[:3001], Point(3001, None, 99.0), *points[3002:4100], Point(4100, None, -5.0), *points[4101:])
    kept = Curve(spiked).thinned(500)
    assert 400 < len(kept) <= 500
    assert kept[0] == spiked[0] and kept[-1] == spiked[-1]
    assert {99.0, -5.0} <= {point.value for point in kept}
    assert [point.step for point in kept] == sorted({point.step for point in kept})
    assert Curve(points[:500]).thinned(500) == list(points[:500])
