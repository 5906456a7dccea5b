"""Commands that are printed work as they are pasted, with and without an activated environment."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from common.commands import command


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter of an environment in the working folder, which is not the first `python` on the path."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    interpreter = tmp_path / ".venv" / "bin" / "python"
    interpreter.symlink_to(Path(sys.executable).resolve())
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.chdir(tmp_path)
    return interpreter


def test_python_is_named_as_the_shell_finds_it(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(environment.parent))
    assert command("data", "download", "mnist") == "python -m pipelines.data download mnist"


def test_another_python_on_the_path_is_not_taken(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if both are links to the same file: the environment has the packages, and that of the system has not."""
    other = tmp_path / "system"
    other.mkdir()
    (other / "python").symlink_to(Path(sys.executable).resolve())
    monkeypatch.setenv("PATH", str(other))
    assert command("data", "list") == ".venv/bin/python -m pipelines.data list"
    monkeypatch.chdir(other)
    assert command("data", "list") == f"{environment} -m pipelines.data list"


def test_no_python_on_the_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert command("compare", Path("logs/my run")) == ".venv/bin/python -m pipelines.compare 'logs/my run'"


def test_words_come_back_as_they_were() -> None:
    words = ["a b", "it's", "[x]", "$HOME", "é"]
    assert shlex.split(command("train", *words))[-5:] == words


def test_a_pasted_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    project = Path(__file__).resolve().parents[2]
    finished = subprocess.run(command("data", "list"), shell=True, cwd=project, capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr
