"""The commands run with the standard streams that containers, cron, job managers and pipes give them."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from pipelines.console import errors
from pipelines.console.errors import user_errors
from pipelines.console.terminal import prepare_terminal
from pipelines.data import main
from pipelines.run.status import read_status
from tests.command_line import PROJECT
from tests.helpers import only_run

FIT = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.callbacks", "null"]
SHELL = {**os.environ, "PYTHONPATH": str(PROJECT), "WANDB_MODE": "disabled", "PYTHONUNBUFFERED": "1"}


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, text: str) -> bytes:
    """What arrives of a text that a command prints to a terminal of that encoding."""
    taken = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(taken, encoding))
    with user_errors():
        print(text, end="")
    return taken.getvalue()


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("ascii", "1 × cpu – best … →", b"1 x cpu - best ... ->"),
        ("ascii", "Zoë, naïve, ½, ‘日本’", b"Zoe, naive, 1/2, '??'"),
        ("latin-1", "1 × cpu – Zoë", "1 × cpu - Zoë".encode("latin-1")),
        ("cp1252", "≥ 1 × – …", ">= 1 × – …".encode("cp1252")),
        ("utf-8", "1 × cpu → 日本", "1 × cpu → 日本".encode()),
        ("utf-8", os.fsdecode(b"caf\xe9.png"), b"caf\xe9.png"),  # a file name in Latin-1
        ("ascii", os.fsdecode(b"caf\xe9.png"), b"caf\xe9.png"),
    ],
)
def test_what_a_terminal_cannot_show_is_replaced(
    monkeypatch: pytest.MonkeyPatch, encoding: str, text: str, shown: bytes
) -> None:
    assert printed(monkeypatch, encoding, text) == shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}],
    ids=["ascii", "C"],
)
def test_a_run_in_an_ascii_terminal(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "mine.yaml").write_text(
        (PROJECT / "pipelines" / "configs" / "softmax.yaml").read_text(encoding="utf-8") + "# größer als ½ × Ω\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pipelines.train", "fit", "--config", "mine.yaml", *FIT[3:]]
    done = subprocess.run(command, cwd=tmp_path, env={**SHELL, **environment}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"1 x cpu" in done.stdout
    assert read_status(only_run(tmp_path, "mine")).state == "finished"


def test_a_closed_stream_takes_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    prepare_terminal()
    print("nowhere", file=sys.stdout)
    print("nowhere", file=sys.stderr)
    assert sys.stdin.read() == ""
    assert not sys.stderr.isatty()


@pytest.mark.slow
def test_a_run_with_closed_streams_writes_nothing_into_its_files(tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m pipelines.train {' '.join(FIT)} <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, env=SHELL).returncode == 0
    run = only_run(tmp_path)
    assert read_status(run).state == "finished"
    assert not [file for file in run.rglob("*") if file.is_file() and b"parameters, on Digits" in file.read_bytes()]


class Broken(io.StringIO):
    """A stream whose reader has ended, or whose disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(("error", "status"), [(BrokenPipeError(32, "Broken pipe"), 141), (OSError(28, "No space"), 2)])
@pytest.mark.parametrize("exits", [False, True])
def test_output_that_nobody_takes_ends_with_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, status: int, exits: bool
) -> None:
    monkeypatch.setattr(errors, "discard_output", lambda number: None)
    monkeypatch.setattr(sys, "stdout", Broken(error))
    monkeypatch.setattr("pipelines.data._run", lambda arguments: print("buffered") or (3 if exits else 0))
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == status
    assert capsys.readouterr().err == (
        "" if status == 141 else "error: The output can't be written (no space); send it to another file.\n"
    )


def test_an_error_that_cannot_be_printed_keeps_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(NoWriter()), write_through=True))
    with pytest.raises(SystemExit) as ended, user_errors():
        raise UserError("reg is −1; it must be at least 0.")
    assert ended.value.code == 2


class NoWriter(io.RawIOBase):
    """A pipe without a reader."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("command", ["train", "sweep --help", "check", "export", "interpret", "data", "compare"])
def test_the_reader_of_a_help_text_may_end(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `python -m pipelines.train | head -1`."""
    from importlib import import_module

    monkeypatch.setattr(errors, "discard_output", lambda number: None)
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError(32, "Broken pipe")))
    name, *arguments = command.split()
    with pytest.raises(SystemExit) as ended:
        import_module(f"pipelines.{name}").main(arguments or ["--help"])
    assert ended.value.code == 141


@pytest.mark.slow
@pytest.mark.parametrize(("unbuffered", "status"), [("", 141), ("1", 0)])
def test_a_run_goes_on_without_a_reader(tmp_path: Path, unbuffered: str, status: int) -> None:
    """`fit | head`: the figures are in the run's folder."""
    command = f"{sys.executable} -m pipelines.train {' '.join(FIT)} 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    environment = {**SHELL, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
    assert read_status(only_run(tmp_path)).state == "finished"
