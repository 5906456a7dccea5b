"""A sweep on a Ray cluster of this machine: trials, killed launchers, lost machines and heads, and authentication."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.fake_sweep import (
    DEADLINE,
    left_over,
    run_sweep,
    start_sweep,
    the_folder,
    the_trials,
    tried,
    wait_for_starts,
    write_sweep,
)

pytestmark = pytest.mark.slow  # a cluster takes five seconds to start, and as long to notice a lost machine


def _token() -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster on loopback; its processes have its token in their environment."""

    port: int
    environment: dict[str, str]

    @property
    def options(self) -> tuple[str, ...]:
        return ("--engine", "ray", "--address", f"127.0.0.1:{self.port}")

    def start(self, *options: str, ip: str = "127.0.0.1") -> None:
        """Adds a machine; Ray takes the number of GPUs as given."""
        command = [str(Path(sys.executable).with_name("ray")), "start", "--node-ip-address", ip, *options]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        subprocess.run(
            [*command, "--include-dashboard=false"] if "--head" in options else command,
            env={**environment, **self.environment},
            check=True,
            capture_output=True,
            timeout=DEADLINE,
        )

    def start_head(self, *options: str) -> None:
        self.start("--head", "--port", str(self.port), *options)

    def kill(self, *words: str) -> None:
        """Kills its processes that have all the words in their command line."""
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                its_own = process.environ().get("RAY_AUTH_TOKEN") == self.environment["RAY_AUTH_TOKEN"]
                if its_own and all(word in line for word in words):
                    process.kill()
            except psutil.Error:
                continue


_HEAD = ("--num-cpus", "6", "--num-gpus", "4")  # Ray takes the number of GPUs as given


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The cluster of all tests: a head with six cores and four GPUs; the last test kills it and starts it again."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        cluster = Cluster(found.getsockname()[1], _token())
    try:
        cluster.start_head(*_HEAD)
        yield cluster
    finally:
        cluster.kill("ray")


def _write(folder: Path, pause: float) -> None:
    """Six trials of two steps, two of which fail."""
    hows = {"2": "exit 3", "4": "sigkill"}
    parameters = {"x": {"values": [1, 2, 3, 4, 5, 6]}, "steps": {"value": 2}, "pause": {"value": pause}}
    write_sweep(folder, parameters={**parameters, "hows": {"value": hows}})


def _check_ended(folder: Path) -> None:
    trials = the_trials(folder)
    assert Counter(trial.state for trial in trials) == {"finished": 4, "failed": 2}
    reasons = {trial.values["x"]: trial.reason for trial in trials if trial.state == "failed"}
    assert reasons == {2: "exit status 3: no output", 4: "killed by SIGKILL: out of memory?"}
    assert left_over(folder) == []


def _listening(processes: list[psutil.Process]) -> set[str]:
    """Addresses on which they listen."""
    addresses = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # Ray has short-lived processes; one may have ended since it was listed
            found = process.net_connections("inet")
            addresses |= {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}
    return addresses


def test_ray_alone_listens_on_loopback_and_runs_every_trial_once(tmp_path: Path) -> None:
    _write(tmp_path, 0.5)
    process = start_sweep(tmp_path, "run", "fake.yaml", "--engine", "ray", "--parallel", "2", environment=_token())
    wait_for_starts(tmp_path, 2)
    addresses = _listening(psutil.Process(process.pid).children(recursive=True))
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    assert addresses and {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
    assert sorted(tried(tmp_path)) == [1, 2, 3, 4, 5, 6]
    assert "best: trial   5  val/accuracy 0.0600  x=6" in out
    _check_ended(tmp_path)


def test_each_trial_has_its_own_gpus_and_cores(tmp_path: Path, cluster: Cluster) -> None:
    write = "import os, pathlib, time, json, sys; x = json.loads(pathlib.Path(sys.argv[1]).read_text())['x'];"
    write += "pathlib.Path(f'said-{x}').write_text(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + os.environ"
    write += "['OMP_NUM_THREADS'] + ' ' + os.environ['WANDB_PROJECT']); time.sleep(5)"
    write_sweep(tmp_path, command=["python", "-c", write, "${args_json_file}"], parameters={"x": {"values": [1, 2]}})
    environment = {**cluster.environment, "WANDB_PROJECT": "mine"}
    options = ("--gpus-per-trial", "2", "--cpus-per-trial", "3")
    _, _, err = run_sweep(tmp_path, "run", "fake.yaml", *cluster.options, *options, environment=environment)
    said = [(tmp_path / f"said-{x}").read_text() for x in (1, 2)]
    assert {frozenset(words.split()[0].split(",")) for words in said} == {frozenset("01"), frozenset("23")}, err
    assert all(words.split()[1:] == ["3", "mine"] for words in said)


def test_a_lost_machine_s_trial_is_tried_elsewhere(tmp_path: Path, cluster: Cluster) -> None:
    resources = ("--num-cpus", "4", "--num-gpus", "1")
    cluster.start("--address", f"127.0.0.1:{cluster.port}", *resources, ip="127.0.0.2")
    _write(tmp_path, 2.0)
    four = ("--cpus-per-trial", "4")  # so that each machine has room for one trial
    process = start_sweep(tmp_path, "run", "fake.yaml", *cluster.options, *four, environment=cluster.environment)
    wait_for_starts(tmp_path, 2)
    cluster.kill("raylet", "node_ip_address=127.0.0.2")
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    assert len(tried(tmp_path)) == 7 and set(tried(tmp_path)) == {1, 2, 3, 4, 5, 6}
    _check_ended(tmp_path)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_ends_its_trials_and_says_how_to_go_on(
    tmp_path: Path, cluster: Cluster, how: signal.Signals
) -> None:
    _write(tmp_path, 60.0)
    options = ("--parallel", "2", *cluster.options)
    process = start_sweep(tmp_path, "run", "fake.yaml", *options, environment=cluster.environment)
    wait_for_starts(tmp_path, 2)
    process.send_signal(how)
    _, err = process.communicate(timeout=DEADLINE)
    again = f"python -m pipelines.sweep resume logs/sweeps/{the_folder(tmp_path).name} {' '.join(cluster.options)}"
    assert process.returncode == 130 and again in err, err
    assert left_over(tmp_path) == []
    assert {trial.state for trial in the_trials(tmp_path)} == {"interrupted"}


def test_bad_input_gets_a_sentence(tmp_path: Path, cluster: Cluster) -> None:
    _write(tmp_path, 0.0)

    def error(*arguments: str, environment: dict[str, str] = cluster.environment) -> str:
        code, _, err = run_sweep(tmp_path, *arguments, environment=environment)
        assert code == 2 and "Traceback" not in err
        return err.strip().splitlines()[-1]

    run = ("run", "fake.yaml")
    nowhere = ("--engine", "ray", "--address", "127.0.0.1:1")
    assert "cluster has 1 cores and 9 GPUs" in error(*run, *cluster.options, "--gpus-per-trial=9")
    assert "cluster has 64 cores" in error(*run, *cluster.options, "--cpus-per-trial", "64")
    folders = set((tmp_path / "logs" / "sweeps").iterdir())
    assert "No Ray cluster answers at --address 127.0.0.1:1;" in error(*run, *nowhere)
    assert "No Ray cluster answers at --address 127.0.0.1:1;" in error("resume", str(folders.copy().pop()), *nowhere)
    assert "add --engine ray" in error(*run, "--engine", "local", "--address", "127.0.0.1:1")
    assert set((tmp_path / "logs" / "sweeps").iterdir()) == folders
    assert "set RAY_AUTH_TOKEN to the token" in error(*run, *cluster.options, environment=_token())
    write_sweep(tmp_path, parameters={"x": {"values": [1, 2]}, "logs": {"value": "val/loss"}})
    assert "No run logs 'val/accuracy'" in error(*run, *cluster.options)


def test_a_sweep_outlives_its_launcher_and_the_cluster(tmp_path: Path, cluster: Cluster) -> None:
    two = ("--parallel", "2")
    _write(tmp_path, 1.0)
    process = start_sweep(tmp_path, "run", "fake.yaml", *cluster.options, *two, environment=cluster.environment)
    wait_for_starts(tmp_path, 2)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + DEADLINE
    while {trial.state for trial in the_trials(tmp_path)} != {"interrupted"} and time.monotonic() < deadline:
        time.sleep(0.1)  # until the watchdogs have let go, having killed the trials
    assert {trial.state for trial in the_trials(tmp_path)} == {"interrupted"}
    assert left_over(tmp_path) == []

    resume = ("resume", str(the_folder(tmp_path)), *cluster.options, *two)
    process = start_sweep(tmp_path, *resume, environment=cluster.environment)
    wait_for_starts(tmp_path, 4)
    cluster.kill("gcs_server")
    cluster.kill("raylet")  # the head's machine is gone
    _, err = process.communicate(timeout=DEADLINE)
    again = f"python -m pipelines.sweep resume logs/sweeps/{the_folder(tmp_path).name} {' '.join(cluster.options)}"
    assert process.returncode == 2 and "is gone. No trial is lost" in err and again in err, err
    assert left_over(tmp_path) == []

    cluster.start_head(*_HEAD)
    code, _, err = run_sweep(tmp_path, *resume, environment=cluster.environment)
    assert code == 0, err
    assert set(tried(tmp_path)) == {1, 2, 3, 4, 5, 6}
    _check_ended(tmp_path)
