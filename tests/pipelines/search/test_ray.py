"""A sweep on a Ray cluster of this machine: its trials, its dead launchers and heads, and who may connect."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.search.search import Search
from tests.command_line import PROJECT

pytest.importorskip("ray", reason="Ray is an optional extra: pip install -r requirements-ray.txt")

_DEADLINE = 120.0
_RAY = str(Path(sys.executable).with_name("ray"))


def _environment(token: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "WANDB_MODE": "disabled",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _processes(environment: dict[str, str], *names: str) -> list[psutil.Process]:
    """Those of this test: they have its token in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if process.environ().get("RAY_AUTH_TOKEN") == environment["RAY_AUTH_TOKEN"]:
                found += [process] * any(name in line for name in names)
        except psutil.Error:
            continue
    return found


def _kill(environment: dict[str, str], *names: str) -> None:
    for process in _processes(environment, *names):
        process.kill()


def _start_head(environment: dict[str, str], port: int) -> None:
    options = ["--head", "--node-ip-address", "127.0.0.1", "--port", str(port), "--num-cpus", "2"]
    subprocess.run(
        [_RAY, "start", *options, "--include-dashboard=false"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=_DEADLINE,
    )


@pytest.fixture
def cluster() -> Iterator[tuple[dict[str, str], int]]:
    """A cluster's environment and port; gone afterwards."""
    environment = _environment(secrets.token_hex(32))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    _start_head(environment, port)
    yield environment, port
    _kill(environment, "ray")


def _sweep_file(folder: Path, pause: float, **parameters: str) -> None:
    (folder / "fake.yaml").write_text(f"""
method: grid
metric: {{name: val/accuracy, goal: maximize}}
command: [python, {PROJECT / "tests" / "fake_trial.py"}, "${{args_json_file}}"]
parameters:
  x: {{values: [1, 2, 3, 4, 5, 6]}}
  steps: {{value: 2}}
  pause: {{value: {pause}}}
  hows: {{value: {{"2": exit 3, "4": sigkill}}}}
""")


def _sweep(folder: Path, environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.sweep", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _started(folder: Path) -> list[str]:
    file = folder / "started.txt"
    return file.read_text().split() if file.exists() else []


def _wait_for_trials(folder: Path, count: int) -> None:
    deadline = time.monotonic() + _DEADLINE
    while len(_started(folder)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(_started(folder)) >= count


def _check_ended(folder: Path) -> None:
    (sweep,) = (folder / "logs" / "sweeps").iterdir()
    trials = Search(sweep).trials()
    assert Counter(trial.state for trial in trials) == {"finished": 4, "failed": 2}
    reasons = {trial.values["x"]: trial.reason for trial in trials if trial.state == "failed"}
    assert reasons == {2: "exit status 3: it said nothing", 4: "killed by SIGKILL: out of memory?"}


def test_ray_alone_listens_on_loopback_and_runs_every_trial_once(tmp_path: Path) -> None:
    _sweep_file(tmp_path, 0.5)
    environment = _environment(secrets.token_hex(32))
    process = _sweep(tmp_path, environment, "run", "fake.yaml", "--engine", "ray", "--parallel", "2")
    _wait_for_trials(tmp_path, 2)
    addresses = {
        connection.laddr.ip
        for member in psutil.Process(process.pid).children(recursive=True)
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    out, err = process.communicate(timeout=_DEADLINE)
    assert process.returncode == 0, err
    assert addresses and {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
    assert sorted(_started(tmp_path)) == list("123456")
    assert "best: trial   5  val/accuracy 0.0600  x=6" in out
    _check_ended(tmp_path)


def test_a_sweep_outlives_its_launcher_and_the_cluster(tmp_path: Path, cluster: tuple[dict[str, str], int]) -> None:
    environment, port = cluster
    _sweep_file(tmp_path, 1.0)
    ray = ("--engine", "ray", "--address", f"127.0.0.1:{port}")
    process = _sweep(tmp_path, environment, "run", "fake.yaml", *ray)
    _wait_for_trials(tmp_path, 2)
    process.kill()
    process.communicate()
    (sweep,) = (tmp_path / "logs" / "sweeps").iterdir()
    deadline = time.monotonic() + _DEADLINE
    while {trial.state for trial in Search(sweep).trials()} != {"interrupted"} and time.monotonic() < deadline:
        time.sleep(0.1)  # until the watchdogs have let go, having killed the trials
    assert {trial.state for trial in Search(sweep).trials()} == {"interrupted"}
    assert not _processes(environment, "fake_trial")

    process = _sweep(tmp_path, environment, "resume", str(sweep), *ray)
    _wait_for_trials(tmp_path, 4)
    _kill(environment, "gcs_server", "raylet")  # the head's machine is gone
    _, err = process.communicate(timeout=_DEADLINE)
    assert process.returncode == 2 and "is gone. No trial is lost: start it again, then python -m" in err, err
    assert not _processes(environment, "fake_trial")

    _start_head(environment, port)
    process = _sweep(tmp_path, environment, "resume", str(sweep), *ray)
    _, err = process.communicate(timeout=_DEADLINE)
    assert process.returncode == 0, err
    assert set(_started(tmp_path)) == set("123456")
    _check_ended(tmp_path)


def test_ctrl_c_ends_the_trials(tmp_path: Path, cluster: tuple[dict[str, str], int]) -> None:
    environment, port = cluster
    _sweep_file(tmp_path, 60.0)
    process = _sweep(tmp_path, environment, "run", "fake.yaml", "--engine", "ray", "--address", f"127.0.0.1:{port}")
    _wait_for_trials(tmp_path, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=_DEADLINE)
    assert process.returncode == 130 and "go on with         python -m pipelines.sweep resume" in err, err
    assert not _processes(environment, "fake_trial")


def test_bad_input_gets_a_sentence(tmp_path: Path, cluster: tuple[dict[str, str], int]) -> None:
    environment, port = cluster
    _sweep_file(tmp_path, 0.0)

    def error(*arguments: str) -> str:
        process = _sweep(tmp_path, environment, "run", "fake.yaml", *arguments)
        _, err = process.communicate(timeout=_DEADLINE)
        assert process.returncode == 2
        return err.strip().splitlines()[-1]

    here = ("--engine", "ray", "--address", f"127.0.0.1:{port}")
    assert "No machine of this Ray cluster has 1 cores and 9 GPUs" in error(*here, "--gpus-per-trial", "9")
    assert "No machine of this Ray cluster has 64 cores" in error(*here, "--cpus-per-trial", "64")
    assert "No Ray cluster answers at --address 127.0.0.1:1;" in error("--engine", "ray", "--address", "127.0.0.1:1")
    assert "add --engine ray" in error("--engine", "local", "--address", "127.0.0.1:1")
    environment = {**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    assert "RAY_AUTH_TOKEN must be the token" in error(*here)
