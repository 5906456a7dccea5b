"""The command line of the checks before training."""

from pathlib import Path

import pytest

from pipelines import check
from pipelines.run.topics import topics

NAMES = ["initial loss", "gradients", "parameters", "overfitting", "splits"]


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """Exit status of a command line run in an empty folder, where it writes no files."""
    monkeypatch.chdir(folder)
    try:
        check.main(arguments)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    assert list(folder.iterdir()) == []
    return code


def test_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", "svm", "--data=Digits", "--model.margin=2", "--seed_everything", "3"]
    assert run(arguments, monkeypatch, tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "check: LinearSVM, 650 parameters, on Digits; seed 3"
    assert [line[:20] for line in lines[1:]] == [f"{name:<13} ok    " for name in NAMES]
    assert "expected 18.0000" in lines[1]
    assert lines[5].endswith("0 of 144 val in train, 0 of 360 test in train, 0 of 360 test in val (limit 1%)")
    assert run(arguments, monkeypatch, tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_a_failed_check_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config=softmax", "--data=Digits", "--model.weight_scale=1", "--trainer.logger=true"]
    assert run(arguments, monkeypatch, tmp_path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:18] for line in lines[1:]] == [
        f"{name:<13} {'ok' if i else 'FAIL':<4}" for i, name in enumerate(NAMES)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "svn"], "There is no topic or file 'svn'; did you mean svm?"),
        (
            ["--data", "Digits"],
            f"There is nothing to check; set --config to a topic ({', '.join(topics())}) or a YAML file.",
        ),
        (["--config", "svm", "--ckpt_path=x"], "--ckpt_path is set, but check is for models before training; "),
        (
            ["--config", "svm", "--data=Digits", "--model.margin=-1"],
            "margin is -1.0; it must be > 0, such as 1.",
        ),
        (["--config", "svm", "--model.margn=1"], "LinearSVM has no setting 'margn'; "),
        (
            ["--config", "svm", "--data=Digits", "--model=lightning.pytorch.demos.boring_classes.BoringModel"],
            "BoringModel lacks loss(logits, labels) and expected_initial_loss(), which the checks need; ",
        ),
    ],
)
def test_mistakes_end_with_status_2_and_one_sentence(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(arguments, monkeypatch, tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


def test_help_needs_no_topic(capsys: pytest.CaptureFixture[str]) -> None:
    check.main([])
    first = capsys.readouterr().out
    check.main(["--help"])
    assert first == capsys.readouterr().out
    assert first.startswith("usage: python -m pipelines.check --config TOPIC|FILE")
    assert "  svm " in first
