"""Reading runs and sweeps, ranking them, and `python -m pipelines.compare` in the terminal."""

import csv
import fcntl
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pipelines.compare import main
from pipelines.comparison.find_runs import find_runs
from pipelines.comparison.ranking import Comparison, compare
from pipelines.comparison.runs import read_run
from pipelines.comparison.terminal_table import print_table
from pipelines.console.formatting import duration, figure, setting
from pipelines.tracking.curves import Curve, Point
from tests.command_line import PROJECT, run_pipeline


def write_run(
    folder: Path,
    accuracy: Sequence[float | str] = (0.5,),
    state: str = "finished",
    reason: str | None = None,
    pictures: Sequence[str] = (),
    **settings: Any,
) -> Path:
    """Writes a run's folder as `pipelines.train fit` does.

    Args:
        folder: Folder of the run.
        accuracy: val/accuracy after each epoch of ten steps.
        state: State in status.json.
        reason: Reason in status.json.
        pictures: Series of which to draw two steps.
        settings: Changes of the configuration: reg, lr, optimizer, callbacks, seed, monitor, mode.
    """
    optimizer = settings.get("optimizer", "torch.optim.SGD")
    own = {"momentum": 0.9} if optimizer.endswith("SGD") else {"betas": [0.9, 0.999], "eps": 1e-8}
    config = {
        "seed_everything": settings.get("seed", 0),
        "trainer": {"max_epochs": len(accuracy), "default_root_dir": str(folder),
                    "callbacks": settings.get("callbacks")},
        "model": {"class_path": "modules.SoftmaxRegression", "init_args": {"reg": settings.get("reg", 0.01)}},
        "data": {"class_path": "datamodules.Digits", "init_args": {"batch_size": 32}},
        "optimizer": {"class_path": optimizer, "init_args": {"lr": settings.get("lr", 0.1), **own}},
        "checkpoint": {"monitor": settings.get("monitor", "val/accuracy"), "mode": settings.get("mode", "max"),
                       "dirpath": f"{folder}/checkpoints"},
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("# lightning.pytorch==2.6.6\n" + yaml.safe_dump(config))
    with (folder / "metrics.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, ["step", "val/accuracy", "epoch", "train/loss"], restval="")
        rows.writeheader()
        for epoch, value in enumerate(accuracy):
            rows.writerow({"step": 10 * epoch + 4, "train/loss": 2 / (epoch + 1), "epoch": epoch})
            rows.writerow({"step": 10 * epoch + 9, "val/accuracy": value, "epoch": epoch})
    times = {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:03:20+00:00"}
    command = f"python -m pipelines.train fit --optimizer {optimizer}"
    status = {"state": state, "reason": reason, "command": command, "host": "here", "pid": 1, **times}
    (folder / "status.json").write_text(json.dumps(status, indent=1))
    for index, name in enumerate(pictures):
        for step in (9, 10 * len(accuracy)):
            file_ = folder / "pictures" / name / f"{step:08d}.png"
            file_.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_mandelbrot((810, 432), (-2, -1.5, 1 + step / 100, 1.5), 60 + index).convert("RGB").save(file_)
    return folder


def write_sweep(logs: Path, name: str = "first", goal: str = "maximize", metric: str = "val/accuracy") -> Path:
    folder = logs / "sweeps" / name
    folder.mkdir(parents=True)
    content = {
        "name": f"{name} try", "method": "random", "metric": {"name": metric, "goal": goal},
        "parameters": {"optimizer.lr": {"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}},
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    (folder / "journal.log").write_text("")
    return folder


def compared(*targets: Path | str, sort: str | None = None) -> Comparison:
    texts = [str(target) for target in targets]
    return compare(find_runs(texts), texts, sort)


def order(comparison: Comparison) -> list[str]:
    return [run.run_id for run in comparison.runs]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which a command line ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert output.startswith("error: ") and output.count("\n") == 1
    return output


# ------------------------------------------------------------------------------------------------------------ reading


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


# ------------------------------------------------------------------------------------------------------------ finding


def test_runs_topics_logs_and_names_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = tmp_path / "logs"
    a, b = write_run(logs / "softmax" / "a"), write_run(logs / "svm" / "b")
    trial = write_run(logs / "softmax" / "first-0000")
    write_run(logs / "softmax" / "first-more-0001")  # another sweep's
    write_run(logs / "softmax" / "first-1")  # not a trial's number
    sweep = write_sweep(logs)
    assert find_runs([str(a)]).folders == (a,)
    assert find_runs([str(a), str(b), f"{a}/"]).folders == (a, b)
    assert len(find_runs([str(logs)]).folders) == 5
    assert find_runs([str(logs / "svm"), str(logs)]).folders[0] == b
    assert find_runs([str(sweep)]).folders == (trial,)
    assert find_runs([str(sweep)]).sweeps[0].name == "first try"
    monkeypatch.chdir(tmp_path)
    for name, folders in {"a": (a,), "svm": (b,), "softmax/a": (a,), "first": (trial,), "sweeps": (trial,)}.items():
        assert tuple(folder.resolve() for folder in find_runs([name]).folders) == folders
    assert find_runs(["first"]).folders == (Path("logs/softmax/first-0000"),)  # relative to the current folder


def test_what_cant_be_found_is_explained_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "There is no softmax; give a folder, or the name of a run" in refused(capsys, "softmax")
    write_run(tmp_path / "logs" / "softmax" / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    assert "There is no softmx; did you mean softmax?" in refused(capsys, "softmx")
    assert "empty contains neither config.yaml nor runs; give" in refused(capsys, "empty")
    assert "file.txt is a file; give the folder" in refused(capsys, "file.txt")
    assert "No run has the metric 'val/acuracy'; did you mean val/accuracy?" in refused(
        capsys, "softmax", "--sort", "val/acuracy"
    )
    write_sweep(tmp_path / "logs")
    assert "The sweep first has no runs yet" in refused(capsys, "first")
    assert "--out is the folder empty" in refused(capsys, "softmax", "--out", "empty")
    assert "file.txt" in refused(capsys, "softmax", "--out", "file.txt/page.html")
    assert ". contains neither" in refused(capsys, "")
    assert "There is no ../x*;" in refused(capsys, "../x*")


# ------------------------------------------------------------------------------------------------------------ ranking


def test_the_best_come_first_and_ties_go_by_name(tmp_path: Path) -> None:
    for name, accuracy in {"c": [0.9, 0.2], "a": [0.7], "d": [0.8], "b": [0.7], "nan": ["nan"], "late": []}.items():
        write_run(tmp_path / "softmax" / name, accuracy)  # type: ignore[arg-type]
    comparison = compared(tmp_path / "softmax")
    assert order(comparison) == ["c", "d", "a", "b", "late", "nan"]
    assert comparison.ranking_metric is not None and comparison.ranking_metric.name == "val/accuracy"
    assert comparison.best(comparison.runs[0]) == Point(9, 0, 0.9) and comparison.last(comparison.runs[0]) == Point(
        19, 1, 0.2
    )
    assert order(compared(tmp_path / "softmax", sort="train/loss"))[:2] == ["c", "a"]  # the smaller the better


def test_a_configuration_that_minimizes_ranks_the_other_way(tmp_path: Path) -> None:
    for name, value in {"a": 0.7, "b": 0.2, "c": 0.9}.items():
        write_run(tmp_path / name, [value], mode="min")
    assert order(compared(tmp_path)) == ["b", "a", "c"]


def test_a_sweeps_metric_and_goal_come_before_the_configurations(tmp_path: Path) -> None:
    for number, value in enumerate([0.5, 0.3, 0.9]):
        write_run(tmp_path / "logs" / "softmax" / f"first-{number:04}", [value], lr=10.0**-number)
    comparison = compared(write_sweep(tmp_path / "logs", goal="minimize"))
    assert order(comparison) == ["first-0001", "first-0000", "first-0002"]
    trial = comparison.trial(comparison.runs[0])
    assert trial is not None and trial[1] == 1
    assert (comparison.title, comparison.settings) == ("first try", ("optimizer.lr",))
    (tmp_path / "logs" / "sweeps" / "first" / "sweep.yaml").write_text("method: [")
    damaged = compared(tmp_path / "logs" / "sweeps" / "first")  # falls back to the runs' configurations
    assert (order(damaged)[0], damaged.title) == ("first-0002", "first")


def test_only_settings_that_differ_are_shown(tmp_path: Path) -> None:
    """Callbacks that draw and the switches of what is printed are no settings; those that change a training are."""
    path = "lightning.pytorch.callbacks.EarlyStopping"
    callbacks = [[{"class_path": path, "init_args": {"patience": n}}] for n in (1, 5)]
    pictures = [{"class_path": "callbacks.Templates", "init_args": {"every_n_epochs": n}} for n in (1, 5)]
    write_run(tmp_path / "a", reg=1, lr=0.1, callbacks=[*callbacks[0], pictures[0]])
    write_run(tmp_path / "b", reg=1.0, lr=0.2, callbacks=callbacks[0])
    write_run(tmp_path / "c", reg=1, lr=0.3, callbacks=[*callbacks[1], *pictures])
    for name, shown in (("a", "true"), ("b", "false")):
        config = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        config["trainer"] |= {"enable_progress_bar": shown == "true", "log_every_n_steps": len(shown)}
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config))
    comparison = compared(tmp_path)
    assert comparison.settings == ("optimizer.lr", "trainer.callbacks.EarlyStopping.patience")
    assert list(comparison.short_names.values()) == ["lr", "patience"]


def test_topic_and_model_are_shown_on_every_width(tmp_path: Path) -> None:
    for topic, model in (("svm", "modules.LinearSVM"), ("caption_transformer", "modules.CaptionTransformer")):
        run = tmp_path / "logs" / topic / "20261130-125042-362b"
        write_run(run)
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["model"]["class_path"] = model
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    comparison = compared(tmp_path / "logs")
    assert comparison.settings[0] == "model"
    for width in (80, 120, 200, None):
        table = _table(comparison, width)
        words = table.split()
        assert {"topic", "svm", "LinearSVM"} <= {word.strip(",") for word in words}
        assert "caption_transform" in "".join(words) and "CaptionTransformer" in "".join(words)  # the first may fold
        assert all(len(line) <= (width or 10_000) for line in table.splitlines())


def test_settings_of_a_class_that_differs_are_not_differences_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", optimizer="torch.optim.Adam")
    assert compared(tmp_path).settings == ("optimizer",)


def test_short_names_are_unique(tmp_path: Path) -> None:
    comparison = Comparison("", (), None, ("model.lr", "optimizer.lr", "model", "data.batch_size", "lr"), (), ())
    assert list(comparison.short_names.values()) == ["model.lr", "optimizer.lr", "model", "batch_size", "lr"]


# ----------------------------------------------------------------------------------------------------------- terminal


def _table(comparison: Comparison, width: int | None = None) -> str:
    printed = io.StringIO()
    print_table(comparison, printed, width)
    return printed.getvalue()


def test_the_page_is_written_although_the_table_s_pipe_has_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "logs" / "svm" / "a", [0.5])
    monkeypatch.chdir(tmp_path)

    def closed(comparison: Comparison) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("pipelines.comparison.terminal_table.print_table", closed)
    with pytest.raises(SystemExit):
        main(["logs"])
    assert (tmp_path / "comparison.html").is_file()


def test_the_table_is_plain_and_whole_when_it_is_piped(tmp_path: Path) -> None:
    reason = "ValueError: the loss is not finite, " + "very " * 60 + "sorry"
    for i in range(50):
        write_run(tmp_path / "softmax" / f"a-rather-long-name-of-a-run-{i:04}", [i / 100], lr=i / 7, seed=i)
    write_run(tmp_path / "softmax" / "broken", [], "failed", reason)
    table = _table(compared(tmp_path / "softmax"))
    assert "\x1b" not in table and "…" not in table
    lines = table.splitlines()
    assert lines[0].split() == [
        "run",
        "state",
        "best",
        "↑",
        "at",
        "last",
        "lr",
        "seed_everything",
        "max_epochs",
        "took",
    ]
    cells = "1 a-rather-long-name-of-a-run-0049 finished 0.4900 step 9, epoch 0 0.4900 7 49 1 3 min 20 s"
    assert lines[2].split() == cells.split()
    assert len([line for line in lines if "a-rather-long-name" in line]) == 50
    assert f"failed   broken: {reason}; metrics.csv has no values yet" in lines


@pytest.mark.parametrize("width", [70, 100, 160])
def test_the_table_fits_the_screen(tmp_path: Path, width: int) -> None:
    for i in range(60):
        write_run(tmp_path / "softmax" / f"20260101-10000{i:02}-ab", [i / 100], lr=i / 7, reg=i / 3, seed=i)
    table = _table(compared(tmp_path / "softmax"), width)
    assert max(map(len, table.splitlines())) <= width
    assert "20260101-1000059-ab" in table  # never cut
    assert "and 20 more runs, all on the page" in table
    assert "…" not in table
    assert ("settings" in table) == (width < 160)


def test_metrics_settings_and_values_in_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    for i, value in enumerate(["[hog]", "[/hog]"]):
        run = write_run(tmp_path / "softmax" / f"[red]{i}", [0.5])
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["model"]["init_args"]["z[/y]"] = value
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        metrics = (run / "metrics.csv").read_text().replace("train/loss", "test/[bold]loss")
        (run / "metrics.csv").write_text(metrics)
    table = _table(compared(tmp_path / "softmax"))
    assert all(text in table for text in ("[red]0", "[red]1", "z[/y]", "[hog]", "[/hog]", "test/[bold]loss")), table


def test_numbers_durations_and_settings_are_formatted() -> None:
    assert [figure(value) for value in (0.97224, 12.5, 1e-7, 3e30, 0.0, None)] == [
        "0.9722", "12.5000", "1.000e-07", "3.000e+30", "0.0000", "–",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (None, 12.4, 59.6, 200, 3900, 187200)] == [
        "–", "12 s", "1 min 00 s", "3 min 20 s", "1 h 05 min", "2 d 04 h",
    ]  # fmt: skip
    assert [setting(value) for value in ("a\nb", "\x1b[2J", "é ü")] == [r'"a\nb"', r'"\u001b[2J"', "é ü"]
    assert [setting(value) for value in (None, True, 0.1 + 0.2, [1, "é"], "Adam", 3)] == [
        "–", "true", "0.3", '[1, "é"]', "Adam", "3",
    ]  # fmt: skip


def test_without_arguments_usage_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    output = capsys.readouterr().out
    assert output.startswith("usage: python -m pipelines.compare PATH_OR_SWEEP...") and "compare upload" in output


def test_it_never_imports_torch_and_its_help_no_heavy_package(tmp_path: Path) -> None:
    write_run(tmp_path / "logs" / "softmax" / "a", pictures=["templates"])
    code = (
        "import sys; from pipelines.compare import main\n"
        "heavy = {'torch', 'lightning', 'wandb', 'plotly', 'rich', 'yaml', 'PIL', 'numpy'}\n"
        "for arguments in (['--help'], ['a', '--ot', 'x'], ['upload', '--help']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "main(['logs'])\n"
        "assert not {'torch', 'lightning', 'wandb'} & set(sys.modules)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
