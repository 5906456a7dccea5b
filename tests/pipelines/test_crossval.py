"""Cross-validation: scores equal those of the runs, folds partition the training images, the test comes once, last."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from datamodules import Digits
from modules import SoftmaxRegression
from pipelines.cross_validation import plan as planning
from pipelines.cross_validation.fold_plot import plot_folds
from pipelines.cross_validation.plan import Plan, make_plan, read_plan
from pipelines.cross_validation.results import Fold, Result
from pipelines.crossval import main
from pipelines.search.search import Search
from tests.command_line import PROJECT, run_pipeline
from tests.fake_sweep import left_over
from tests.helpers import with_python

DIGITS = [
    "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--data.batch_size", "64",
    "--trainer.max_epochs", "2", "--trainer.callbacks", "null",
]  # fmt: skip
FAKE_TRIAL = """
import json, os, sys, time
from pathlib import Path
values = json.loads(Path(sys.argv[1]).read_text())
run = Path("logs/fake") / os.environ["WANDB_RUN_ID"]
run.mkdir(parents=True, exist_ok=True)
x, fold = values["x"], values["data.fold"]
figures = {"val/accuracy": [0.9, x / 100 + (fold or 0) / 1000]}
figures |= {f"val/accuracy/k={k}": [0.9, k / 100 + fold / 1000] for k in values.get("model.report_k", [])}
lines = [",".join(["step", *figures]), *(",".join(map(str, [i, *(f[i] for f in figures.values())])) for i in (0, 1))]
if x == 13 and fold == 1:
    sys.exit("error: x is unlucky; give another.")
(run / "metrics.csv").write_text("\\n".join(lines) + "\\n")
with Path("started.txt").open("a") as file:
    file.write(f"{x} {fold}\\n")
if Path("hang").exists() and Path("hang").read_text() in ("", f"{fold}"):
    time.sleep(600)
"""


class ManyScales(SoftmaxRegression):
    """Declares that one run evaluates several weight scales."""

    one_pass_settings: ClassVar[dict[str, str]] = {"weight_scale": "report_scales"}

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        weight_scale: float = 1e-3,
        report_scales: list[float] | None = None,
    ) -> None:
        super().__init__(input_shape, num_classes, weight_scale=weight_scale)


def fake(folder: Path, **content: Any) -> Path:
    """The folder of a cross-validation whose runs need no torch; none has begun, so it is started with --resume."""
    script = folder / "trial.py"
    script.write_text(FAKE_TRIAL)
    settings: dict[str, Any] = {"folds": 3, "grid": {"x": [1, 2]}, "metric": "val/accuracy", "goal": "maximize"}
    plan = Plan(topic="fake", arguments=["--config", "fake"], **settings | content)
    sweep = plan.sweep(folder)
    text = yaml.safe_load(sweep.text)
    text["command"] = ["python", str(script), "${args_json_file}"]
    text["parameters"].setdefault("x", {"value": 1})
    sweep.path.write_text(yaml.safe_dump(text, sort_keys=False))
    search = Search.create(planning.read_sweep(sweep.path), folder / "logs")
    plan.save(search.folder)
    return search.folder


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Runs `python -m pipelines.crossval`; its exit status, output and error output."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.crossval", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "WANDB_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished cross-validation of softmax regression on Digits: its folder and its output."""
    folder = tmp_path_factory.mktemp("done")
    finished = run_pipeline("crossval", [*DIGITS, "--folds", "2", "--optimizer.lr", "0.1", "--parallel", "2"], folder)
    assert (finished.code, finished.err) == (0, "")
    (search,) = (folder / "logs" / "sweeps").iterdir()
    return search, finished.out


@pytest.mark.slow
def test_means_and_deviations_are_those_of_the_runs(done: tuple[Path, str]) -> None:
    folder, out = done
    runs = sorted((folder.parents[1] / "softmax").glob("*-000?"))
    figures: list[float] = []
    for path in runs:
        config = yaml.safe_load((path / "config.yaml").read_text())
        last = [row["val/accuracy"] for row in rows(path / "metrics.csv") if row["val/accuracy"]]
        assert len(last) == 2  # epochs
        assert config["data"]["init_args"]["fold"] == len(figures)
        figures.append(float(last[-1]))
    assert len(figures) == 2
    assert f"  {np.mean(figures):.4f} ± {np.std(figures, ddof=1):.4f}\n" in out
    listed = [(row["fold"], float(row["val/accuracy"]), row["run"]) for row in rows(folder / "folds.csv")]
    assert listed == [(str(fold), figures[fold], runs[fold].name) for fold in (0, 1)]
    assert Image.open(folder / "folds.png").size[0] > 400


@pytest.mark.slow
def test_folds_partition_the_training_images(done: tuple[Path, str]) -> None:
    folder, _ = done
    whole = load_digits()
    images = np.rint(whole.images * (255 / 16)).astype(np.uint8)[np.arange(len(whole.target)) % 5 != 0]
    held_out = []
    for fold in (0, 1):
        (path,) = (folder.parents[1] / "softmax").glob(f"*-000{fold}")
        settings = yaml.safe_load((path / "config.yaml").read_text())["data"]["init_args"]
        data = Digits(**settings)
        data.setup("validate")
        assert len(data.splits["train"][1]) + len(data.splits["val"][1]) == 1437
        held_out.append(data.splits["val"][0])
    together = torch.cat(held_out).numpy().reshape(-1, 64)
    assert sorted(map(bytes, together)) == sorted(map(bytes, images.reshape(-1, 64)))


@pytest.mark.slow
def test_the_final_run_has_all_training_images_and_is_tested_once(done: tuple[Path, str]) -> None:
    folder, out = done
    path = folder.parents[1] / "softmax" / f"{folder.name}-final"
    config = yaml.safe_load((path / "config.yaml").read_text())
    settings = config["data"]["init_args"]
    assert (settings["val_fraction"], settings["num_folds"], settings["fold"]) == (0, None, None)
    assert config["optimizer"]["init_args"]["lr"] == 0.1
    last = torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2 * (1437 // 64)  # whole batches
    tests = [row for row in rows(path / "metrics.csv") if row.get("test/accuracy")]
    assert len(tests) == 1 and tests[0]["test/images"] == "360.0"
    data = Digits(**settings)
    data.setup("fit")
    data.setup("test")
    state = last["state_dict"]
    images, labels = data.splits["test"]
    logits = data.preprocessing(images).flatten(1) @ state["linear.weight"].T + state["linear.bias"]
    accuracy = float((logits.argmax(1) == labels).double().mean())
    assert float(tests[0]["test/accuracy"]) == pytest.approx(accuracy, abs=1e-6)
    assert f"test/accuracy      {accuracy:.4f}, of its last checkpoint" in out
    assert not any(row.get("test/accuracy") for run in path.parent.glob("*-000?") for row in rows(run / "metrics.csv"))


@pytest.mark.slow
def test_a_finished_one_has_nothing_left_to_do(done: tuple[Path, str]) -> None:
    folder, out = done
    code, again, err = run(folder.parents[2], "--resume", str(folder))
    assert (code, err) == (0, "")
    assert again[again.index("val/accuracy after") :] == out[out.index("val/accuracy after") :]
    final = folder.parents[1] / "softmax" / f"{folder.name}-final" / "metrics.csv"
    assert len([row for row in rows(final) if row["test/accuracy"]]) == 1


@pytest.mark.slow
def test_packed_runs_of_a_fold_have_the_scores_of_single_runs(tmp_path: Path) -> None:
    scores = {}
    for pack in ("off", "auto"):
        (tmp_path / pack).mkdir()
        arguments = [*DIGITS, "--folds", "2", "--grid", "model.reg=0.001,0.1,1.0", "--no-test", "--pack", pack]
        finished = run_pipeline("crossval", arguments, tmp_path / pack)
        assert (finished.code, finished.err) == (0, "")
        assert ("up to 32 runs in a process" in finished.out) == (pack == "auto")
        (file,) = (tmp_path / pack / "logs" / "sweeps").glob("*/folds.csv")
        scores[pack] = [(row["model.reg"], row["fold"], float(row["val/accuracy"])) for row in rows(file)]
    assert len(scores["off"]) == 6
    assert scores["auto"] == scores["off"]


def test_a_fold_that_fails(tmp_path: Path) -> None:
    folder = fake(tmp_path, grid={"x": [1, 13, 2]})
    code, out, err = run(tmp_path, "--resume", str(folder), "--no-test", "--parallel", "4")
    assert (code, err) == (1, "")
    listed = out.splitlines()[out.splitlines().index(next(line for line in out.splitlines() if "mean ±" in line)) :]
    assert listed[1:5] == [
        "  0.0210 ± 0.0010  x=2",
        "  0.0110 ± 0.0010  x=1",
        "  0.1310 ± 0.0014 over 2 of 3 folds only  x=13",
        "    fold 1 failed: exit status 1: x is unlucky; give another.",
    ]
    assert "best setting       x=2" in out
    failed = [row for row in rows(folder / "folds.csv") if row["state"] == "failed"]
    assert [(row["x"], row["fold"], row["val/accuracy"]) for row in failed] == [("13", "1", "")]
    assert failed[0]["reason"] == "exit status 1: x is unlucky; give another."


def test_all_folds_fail(tmp_path: Path) -> None:
    folder = fake(tmp_path, grid={"x": [13]}, folds=2)
    code, out, err = run(tmp_path, "--resume", str(folder))
    assert code == 1
    assert err == "No setting has a score on every fold, so none is selected.\n"
    assert "  0.1300 ± nan over 1 of 2 folds only  x=13" in out
    assert len((tmp_path / "started.txt").read_text().splitlines()) == 1  # nothing was trained on all images


@pytest.mark.slow
def test_a_goal_of_minimize_selects_the_smallest_mean(tmp_path: Path) -> None:
    folder = fake(tmp_path, goal="minimize", folds=2)
    code, out, err = run(tmp_path, "--resume", str(folder))
    assert "best setting       x=1" in out
    assert (tmp_path / "started.txt").read_text().splitlines()[4:] == ["1 None"]  # on all images
    assert json.loads((folder / "trials" / "final.json").read_text())["data.val_fraction"] == 0
    assert code == 1  # the fake run has left no checkpoint
    lost = f"There is no checkpoint at logs/fake/{folder.name}-final/checkpoints/last.ckpt;"
    assert err.startswith(f"The final run has no test/accuracy: the test failed: exit status 2: {lost}")


def test_one_run_a_fold_evaluates_all_values(tmp_path: Path) -> None:
    folder = fake(tmp_path, grid={"model.k": [3, 5, 1]}, one_pass=["model.k", "model.report_k"])
    code, out, err = run(tmp_path, "--resume", str(folder), "--no-test", "--parallel", "1")
    assert (code, err) == (0, "")
    assert (tmp_path / "started.txt").read_text().splitlines() == ["1 0", "1 1", "1 2"]
    assert [line for line in out.splitlines() if line.startswith("  0.")] == [
        "  0.0510 ± 0.0010  model.k=5",
        "  0.0310 ± 0.0010  model.k=3",
        "  0.0110 ± 0.0010  model.k=1",
    ]
    listed = rows(folder / "folds.csv")
    assert {row["run"] for row in listed if row["fold"] == "1"} == {f"{folder.name}-0001"}
    assert [float(row["val/accuracy"]) for row in listed[:3]] == pytest.approx([0.05, 0.051, 0.052])


def test_a_class_declares_what_it_evaluates_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of one_pass_settings add no runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines.search.parameter_check.check_parameters", lambda sweep: None)  # takes 5 s
    arguments = [*DIGITS, "--model", f"{__name__}.ManyScales"]
    plan = make_plan(arguments, 3, ["model.weight_scale=0.001,1e-1", "optimizer.lr=0.01,0.1"])
    assert plan.one_pass == ["model.weight_scale", "model.report_scales"]
    assert plan.grid == {"model.weight_scale": [0.001, 0.1], "optimizer.lr": [0.01, 0.1]}
    assert (plan.metric, plan.goal, plan.topic) == ("val/accuracy", "maximize", "softmax")
    sweep = plan.sweep(tmp_path)
    assert sweep.size == 2 * 3
    assert sweep.parameters["model.report_scales"].grid() == [[0.001, 0.1]]
    assert plan.metric_of({"model.weight_scale": 0.1, "optimizer.lr": 0.01}) == "val/accuracy/weight_scale=0.1"
    assert len(list(plan.settings)) == 4
    plan.save(tmp_path)
    assert read_plan(tmp_path) == plan


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed(tmp_path: Path, number: int) -> None:
    folder = fake(tmp_path, folds=2)
    (tmp_path / "hang").touch()
    process = start(tmp_path, "--resume", str(folder), "--parallel", "2", "--no-test")
    deadline = time.monotonic() + 60
    while not (tmp_path / "started.txt").is_file() or len((tmp_path / "started.txt").read_text().split()) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    continue_with = f"continue with      python -m pipelines.crossval --resume {folder.relative_to(tmp_path)} --no-test"
    assert with_python(err) == f"{continue_with}\nStopped.\n"
    assert not left_over(tmp_path)
    (tmp_path / "hang").unlink()
    code, out, err = run(tmp_path, *continue_with.split()[5:])
    assert (code, err) == (0, "")
    assert sum("x=" in line and "±" in line for line in out.splitlines()) == 2


@pytest.mark.slow
def test_stopped_in_the_final_run(tmp_path: Path) -> None:
    folder = fake(tmp_path, folds=2)
    (tmp_path / "hang").write_text("None")
    process = start(tmp_path, "--resume", str(folder))
    deadline = time.monotonic() + 60
    while not (tmp_path / "started.txt").is_file() or "None" not in (tmp_path / "started.txt").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "best setting       x=2" in out
    assert with_python(err).startswith(
        "continue with      python -m pipelines.crossval --resume logs/sweeps/crossval-fake-"
    )
    assert not left_over(tmp_path)
    (tmp_path / "hang").unlink()
    run(tmp_path, *err.splitlines()[0].split()[5:])
    assert (tmp_path / "started.txt").read_text().splitlines()[4:] == ["2 None", "2 None"]  # the final run alone


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which a command line ends with status 2."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err.removeprefix("error: ").strip()


@pytest.mark.usefixtures("forked_check")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--folds 5", "There is no --config; give a topic (caption_encoder_decoder, "),
        ("--config softmx", "There is no topic or file 'softmx'; did you mean softmax?"),
        ("{digits} --folds 1", "--folds is 1; it must be at least 2."),
        ("{digits} --folds many", "--folds is 'many'; it must be an integer."),
        ("{digits} --folds 2000", "num_folds is 2000, but there are 1437 training images; give at most 1437."),
        ("{digits} --parallel 0", "--parallel is 0; it must be at least 1."),
        (
            "{digits} --data.fold 1",
            "--data.fold was given, but it differs between the runs of the folds; leave it out.",
        ),
        ("{digits} --data.num_folds=3", "--data.num_folds was given, but it differs between the runs of the folds;"),
        ("{digits} --grid data.fold=1,2", "--grid data.fold was given, but it differs between the runs of the folds;"),
        ("{digits} --ckpt_path x.ckpt", "--ckpt_path was given, but"),
        ("{digits} --grid model.reg", "--grid is 'model.reg'; give NAME=VALUE,VALUE,…"),
        ("{digits} --grid model.reg=", "--grid model.reg has the values ''; give one or more"),
        ("{digits} --grid model.reg=1,,2", "--grid model.reg has the values '1,,2'; give one or more"),
        ("{digits} --grid model.reg=1,", "--grid model.reg has the values '1,'; give one or more"),
        ("{digits} --grid model.reg=0.1,1e-1", "--grid model.reg has the value 0.1 twice; give each value once."),
        ("{digits} --grid model.reg=1 --grid model.reg=2", "--grid model.reg was given twice; give all its values"),
        ("{digits} --grid model.reg=1 --model.reg 2", "--model.reg and --grid model.reg were both given; give one"),
        ("{digits} --grid model.regg=1,2", "SoftmaxRegression has no setting 'regg'; did you mean reg?"),
        ("{digits} --model.regg 1", "SoftmaxRegression has no setting 'regg'; did you mean reg?"),
        (
            "{digits} --checkpoint.monitor train/accuracy",
            "checkpoint.monitor is train/accuracy; it must be a validation metric",
        ),
        ("--resume nothing", "nothing is not a cross-validation's folder; give one such as"),
        ("--resume nothing --folds 3", "--resume continues with the same settings, folds and grid;"),
        ("--resume nothing --pack 4", "--resume continues with the same settings, folds and grid;"),
        ("{digits} --pack 0", "--pack 0 is none of auto, off and a whole number of at least 1"),
    ],
)
def test_mistakes(
    arguments: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fails(arguments.format(digits=" ".join(DIGITS)).split(), capsys).startswith(sentence)
    assert not Path("logs").exists()


def results(plan: Plan) -> list[Result]:
    """Three folds of each setting, with random scores."""
    rng = np.random.default_rng(0)
    return [
        Result(values, [Fold(i, "run", float(rng.random()), "finished", None) for i in range(plan.folds)])
        for values in plan.settings
    ]


@pytest.mark.parametrize(
    ("grid", "scale", "ticks"),
    [
        ({"model.k": [20, 1, 5]}, "linear", None),
        ({"optimizer.lr": [1e-4, 1e-1, 1e-2]}, "log", None),
        ({"model.reg": [0, 1e-4, 1e-1]}, "linear", None),
        ({"data.flip": [True, False]}, "linear", ["data.flip=true", "data.flip=false"]),
        ({"a": [1, 2], "b": ["x"]}, "linear", ["a=1\nb=x", "a=2\nb=x"]),
        ({"$b$": ["$x_{$", "y"]}, "linear", ["$b$=$x_{$", "$b$=y"]),
        ({}, "linear", ["softmax"]),
    ],
)
def test_the_plot(
    grid: dict[str, list[Any]], scale: str, ticks: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Any] = []
    save = Figure.savefig

    def keep(figure: Figure, file: Path) -> None:
        drawn.append(figure)
        save(figure, file)

    monkeypatch.setattr(Figure, "savefig", keep)
    plan = Plan("softmax", [], 3, grid, "val/accuracy", "maximize")
    made = results(plan)
    plot_folds(plan, made[::-1], tmp_path / "folds.png")
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == scale
    if ticks is not None:
        assert [label.get_text() for label in axes.get_xticklabels()] == ticks
    clouds = [found.get_offsets() for found in axes.collections]
    points = np.concatenate([cloud for cloud in clouds if len(cloud) == 3])
    assert sorted(points[:, 1]) == pytest.approx(sorted(score for result in made for score in result.scores))
    (bars,) = axes.containers
    means = np.array(bars[0].get_xydata())
    expected = [[i if ticks else next(iter(r.values.values())), np.mean(r.scores)] for i, r in enumerate(made)]
    np.testing.assert_allclose(means, sorted(expected))
    assert Image.open(tmp_path / "folds.png").format == "PNG"
