"""`pipelines.reproduce`: it runs rows, compares their figures, names those that differ, fail or can't run here."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.reproduce import main
from pipelines.reproduction import checksums
from pipelines.reproduction.choice import choose
from pipelines.reproduction.rows import read_results
from pipelines.tracking.curves import read_curves
from tests.command_line import run_module

FIT = "fit --config softmax --data Digits --trainer.max_epochs 1 --trainer.callbacks null"


def row(**changes: Any) -> dict[str, Any]:
    values = {
        "label": "softmax", "data": "Digits", "run": [FIT, "test --ckpt_path RUN"], "seeds": [3, 4],
        "figures": {"test/accuracy": [0.0, 0.0]}, "tolerance": 0.0, "minutes": 5, "machine": "here",
    }  # fmt: skip
    return {**values, **changes}


def write(folder: Path, **rows: dict[str, Any]) -> list[str]:
    """Writes a file of rows with the checksum of Digits; the options that name it."""
    content = {"data": {"Digits": checksums.data_checksum("Digits")}, "machines": {"here": "x"}, "rows": rows}
    (folder / "rows.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return ["--file", str(folder / "rows.yaml")]


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder, in which the commands of rows are forked."""

    def run(command: list[str], env: dict[str, str], check: bool) -> "subprocess.CompletedProcess[str]":
        done = run_module(command[2], command[3:], Path.cwd(), **env, WANDB_MODE="disabled")
        return subprocess.CompletedProcess(command, done.code)

    monkeypatch.setattr("pipelines.reproduction.repetition.subprocess.run", run)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as end:
        return int(str(end.code))
    return 0


@pytest.mark.slow
def test_a_row_is_run_with_its_seeds_and_compared_with_its_figures(
    forked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status([*write(forked, first=row()), "first", "--seeds", "2"]) == 1  # the accuracy is not 0
    out = capsys.readouterr().out
    figures = re.findall(r"^first +(\d) +test/accuracy +0\.0000 +([\d.]+) +\+[\d.]+ +0 +[\d.]+ +differs$", out, re.M)
    assert [seed for seed, _ in figures] == ["3", "4"]
    for seed, measured in figures:
        (run,) = Path("logs/softmax").glob(f"first-{seed}-*")
        curve = read_curves(run / "metrics.csv")["test/accuracy"]
        assert f"{curve.last.value:.4f}" == measured and 0.1 < curve.last.value < 1
        assert f"seed_everything: {seed}" in (run / "config.yaml").read_text()
    values = [float(measured) for _, measured in figures]
    again = write(forked, first=row(figures={"test/accuracy": values}, tolerance=0.00006))
    assert status([*again, "first", "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^first .* agrees$", out, re.M)) == 2
    report = Path(re.findall(r"^report  (.+)$", out, re.M)[0]).read_text()
    assert "| first | 3 | test/accuracy |" in report and f"`python -m pipelines.train {FIT}`" in report


@pytest.mark.slow
def test_a_command_that_fails_other_data_and_missing_files_are_said(
    forked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"wrong": row(run=[f"{FIT} --model.regg 1"]), "absent": row(needs=["weights.safetensors"], data=None)}
    options = write(forked, **rows)
    file = forked / "rows.yaml"
    file.write_text(file.read_text().replace(checksums.data_checksum("Digits"), "0123456789ab"))
    assert status([*options, "wrong", "absent"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^wrong +3 +test/accuracy +0\.0000 +– +– +0 +0\.\d +failed$", out, re.M)
    assert re.search(r"^absent( +–){7} +needs weights\.safetensors$", out, re.M)
    assert "Digits has the checksum" in out and "not 0123456789ab of the recorded figures" in out


def test_rows_are_chosen_by_name_and_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = write(tmp_path, long=row(minutes=20), short=row(minutes=2), middle=row(minutes=9))
    rows = read_results(tmp_path / "rows.yaml").rows

    def chosen(names: list[str], seeds: int, minutes: float | None) -> list[str]:
        return [row.name for row in choose(rows, names, seeds, minutes)]

    assert chosen(["middle", "long", "middle"], 1, None) == ["middle", "long"]
    assert chosen([], 1, 11) == ["short", "middle"]
    assert chosen([], 1, 60) == ["long", "short", "middle"]
    assert chosen([], 2, 11) == ["short"]
    assert chosen(["long", "middle"], 1, 10) == ["middle"]
    main(options)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "long    test/accuracy 0.0000  20 min a seed" and len(lines) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("shrot", "There is no row 'shrot' in results.yaml; did you mean short?"),
        ("--seeds 0", "--seeds is 0; it must be at least 1."),
        ("--within 30", "--within is '30'; give a time such as 90s, 30m or 2h."),
        ("--within 1m", "No row takes at most 1 minutes; the shortest, short, takes 2."),
        ("--file nowhere.yaml", "There is no file nowhere.yaml; give the results.yaml of the project."),
    ],
)
def test_mistakes(arguments: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status([*write(tmp_path, short=row(minutes=2)), *arguments.split()]) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"
