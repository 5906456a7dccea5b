"""`pipelines.new topic`: the written files work untouched, nothing is overwritten, and names are checked."""

import shlex
import stat
import sys
from pathlib import Path

import pytest

from pipelines.new import main, new_topic
from tests.command_line import PROJECT, run_module, start_pipeline
from tests.helpers import figures


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_files_are_small_and_named_after_the_topic(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["topic", "tiny_net"])
    names = ["test_tiny_net.py", "tiny_net.py", "tiny_net.yaml", "tiny_net_sweep.yaml"]
    assert sorted(path.name for path in (folder / "tiny_net").iterdir()) == names
    for name in names:
        text = (folder / "tiny_net" / name).read_text()
        assert text.count("\n") <= 50
        assert "NAME" not in text and "CLASS" not in text
    assert "class TinyNet(Classifier):" in (folder / "tiny_net" / "tiny_net.py").read_text()
    assert stat.S_IMODE((folder / "tiny_net").stat().st_mode) & 0o500 == 0o500
    assert list(folder.iterdir()) == [folder / "tiny_net"]  # no temporary folder is left
    assert "fit --config tiny_net/tiny_net.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Tiny", "'Tiny' can't be the name of a topic; give lower-case letters, digits and underscores"),
        ("../tiny", "can't be the name of a topic"),
        ("2net", "can't be the name of a topic"),
        ("class", "'class' can't be the name of a topic"),
        ("svm", "svm is a topic of this project; give another name."),
        ("json", "json is the name of an installed Python module, which would hide yours; give another one."),
        ("there", "there exists; give another name, or remove it. Nothing was written."),
    ],
)
def test_a_name_that_can_not_be_used_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (folder / "there").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["topic", name])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert list(folder.iterdir()) == [folder / "there"]
    assert (folder / "there").read_text() == "mine"


@pytest.mark.parametrize("arguments", [["net"], ["topic"], ["model", "net"], ["topic", "a", "b"]])
def test_anything_but_a_topic_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "is not a request for a topic; use" in capsys.readouterr().err
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_every_command_of_the_page_runs_on_the_files_untouched(folder: Path) -> None:
    page = (PROJECT / "docs" / "own_topics.md").read_text(encoding="utf-8")
    listed = [shlex.split(line)[2:] for line in page.splitlines() if line.startswith("python -m ")]
    assert [words[0] for words in listed] == [
        *("pipelines.new", "pipelines.check", "pipelines.train", "pipelines.sweep", "pipelines.compare", "pytest"),
    ]
    for module, *words in listed:
        if module == "pytest":
            finished = run_module(module, [*words, "-q", "-p", "no:cacheprovider"], folder, PYTHONPATH=str(PROJECT))
        else:
            finished = start_pipeline(module.removeprefix("pipelines."), words, folder).finish(600)
        assert finished.code == 0, (module, words, finished.out, finished.err)
    (run,) = (path for path in (folder / "logs" / "tiny_net").iterdir() if "sweep" not in path.name)
    assert figures(run, "val/accuracy")[-1] > 0.9
    assert len(list((folder / "logs" / "sweeps").glob("tiny_net_sweep-*"))) == 1
    exported = start_pipeline("export", [str(run), "--format", "torchscript"], folder).finish(600)
    assert exported.code == 0, exported.err
    assert (run / "model.pt").is_file()


def test_the_written_class_learns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_topic("another_net")
    monkeypatch.syspath_prepend(str(folder / "another_net"))
    from importlib import import_module

    tests = import_module("test_another_net")
    tests.test_logits_and_first_loss()
    tests.test_it_learns_twenty_images_by_heart()
    for name in ("another_net", "test_another_net"):
        sys.modules.pop(name)
