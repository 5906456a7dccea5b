"""Hang-ups and the signals of batch systems stop a run as SIGTERM does; `nohup` keeps it running."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.console.signals import interrupt_on_signals, stop_signals
from pipelines.run.status import read_status
from tests.command_line import PROJECT, start_pipeline
from tests.helpers import weights

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.batch_size", "32", "--trainer.callbacks", "null",
    "--trainer.max_epochs",
]  # fmt: skip
STOP = [signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restores the handlers of this process."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    before = {number: signal.getsignal(number) for number in (*STOP, signal.SIGINT, signal.SIGTERM)}
    for number in STOP:  # a shell that starts the tests in the background ignores SIGQUIT
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def await_metrics(run: Path) -> None:
    deadline = time.monotonic() + 100
    while not (run / "metrics.csv").is_file() or not (run / "metrics.csv").stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGUSR2], ids=lambda signum: signum.name)
def test_a_signal_stops_a_run_with_its_checkpoint(tmp_path: Path, signum: signal.Signals) -> None:
    process = start_pipeline("train", [*FIT, "3000"], tmp_path, WANDB_RUN_ID="a")
    run = tmp_path / "logs" / "softmax" / "a"
    await_metrics(run)
    process.send_signal(signum)
    finished = process.finish()
    assert finished.code == 128 + signum
    assert f"by {signum.name}; continue with: " in finished.err and finished.err.startswith("Stopped at step ")
    assert (read_status(run).state, read_status(run).reason) == ("stopped", signum.name)
    assert weights(run)


def test_ignored_signals_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(STOP) < set(stop_signals())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    assert signal.SIGHUP not in stop_signals()
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert signal.SIGUSR1 not in stop_signals()  # Lightning requeues the job


@pytest.mark.parametrize("signum", STOP, ids=lambda signum: signum.name)
def test_a_signal_interrupts_a_launcher(signum: signal.Signals) -> None:
    interrupt_on_signals()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signum)


@pytest.mark.slow
def test_a_closed_terminal_stops_a_run_with_its_checkpoint(tmp_path: Path) -> None:
    """The window is closed while the progress bar is drawn: printing fails from then on."""
    command = [sys.executable, "-m", "pipelines.train", *FIT, "3000"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "WANDB_MODE": "offline", "WANDB_RUN_ID": "a"}
    process, terminal = pty.fork()
    if not process:
        os.chdir(tmp_path)
        os.execve(sys.executable, command, environment)
    run = tmp_path / "logs" / "softmax" / "a"
    deadline = time.monotonic() + 100
    while not (run / "metrics.csv").is_file() or not (run / "metrics.csv").stat().st_size:
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitpid(process, 0)[1] == signal.SIGHUP
    assert (read_status(run).state, read_status(run).reason) == ("stopped", "SIGHUP")
    assert weights(run)


@pytest.mark.slow
def test_nohup_keeps_a_run(tmp_path: Path) -> None:
    command = ["nohup", sys.executable, "-m", "pipelines.train", *FIT, "20"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "WANDB_MODE": "disabled", "WANDB_RUN_ID": "a"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    run = tmp_path / "logs" / "softmax" / "a"
    await_metrics(run)
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert (process.returncode, read_status(run).state) == (0, "finished")
