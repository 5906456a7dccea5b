"""Finding runs and sweeps by folder or name."""

from pathlib import Path

import pytest

from pipelines.comparison.find_runs import find_runs
from tests.pipelines.comparison.run_folders import refused, write_run, write_sweep


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
