"""W&B's real client, agent and command line against a stand-in for its server: sweeps, stops and lost servers."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.run.status import read_status
from pipelines.search.wandb_engine import run_on_wandb
from tests.command_line import PROJECT, Finished, run_module, run_pipeline, start_pipeline
from tests.helpers import figures, only_run, rows, wait_until, weights, with_python
from tests.pipelines.run.test_resume import LONG, NOISY
from tests.wandb_server import Run, WandbServer

_DEADLINE_SECONDS = 120.0
_SWEEPS = sorted((PROJECT / "sweeps").glob("*.yaml"))
_FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.batch_size", "64", "--trainer.log_every_n_steps", "5",
]  # fmt: skip
_TORCHRUN = ("torch.distributed.run", "--nproc_per_node=2", "-m")
_TWO = {"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.accelerator": "cpu"}


class RecordRate(Callback):
    """Writes each process's learning rate into the folder where the command was given."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        Path(f"rate-{os.environ['WANDB_RUN_ID']}-{trainer.global_rank}").write_text(str(rate))


class Leave(Callback):
    """Ends the process as a program does that knows why."""

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        raise SystemExit(3)


class Hang(Callback):
    """Sits on the first batch."""

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        Path("hangs").touch()
        time.sleep(600)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    """A server that the user is logged in to, and an empty folder to work in."""
    server = WandbServer()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:  # also what a run in this process left
        monkeypatch.delenv(name)
    for name, value in _account(server, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield server
    with contextlib.suppress(OSError):
        server.die()


def _account(server: WandbServer, folder: Path) -> dict[str, str]:
    return {
        "WANDB_API_KEY": "a" * 40,
        "WANDB_BASE_URL": server.url,
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
        "WANDB_CONFIG_DIR": str(folder / "wandb-config"),
        "NETRC": str(folder / "netrc"),
        "PYTHONPATH": str(PROJECT),
        "OMP_NUM_THREADS": "1",
        "TEST_FOLDER": str(folder),  # by which `_processes` finds them
    }


def _wandb(*arguments: str) -> Finished:
    return run_module("wandb", list(arguments), Path.cwd())


def _sweep(file: Path, command: list[str], points: list[dict[str, Any]], server: WandbServer) -> str:
    """Registers a sweep that will consist of the given points; its path."""
    content = {
        "name": "test",
        "method": "random",
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "command": ["${env}", "python", *command],
        "parameters": {"optimizer.lr": {"min": 0.001, "max": 0.1}},
    }
    file.write_text(yaml.safe_dump(content))
    made = _wandb("sweep", "--project", "lightning-231n", "--entity", "us", str(file))
    assert made.code == 0, made.err
    name = list(server.sweeps)[-1]
    server.sweeps[name].points = iter(points)
    return f"us/lightning-231n/{name}"


def _processes(folder: Path) -> list[list[str]]:
    """The command lines of what was started for a test and still runs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get("TEST_FOLDER") == str(folder) and process.pid != os.getpid()
            serves_all_tests = process.ppid() == os.getpid() and "multiprocessing" in " ".join(process.cmdline())
            if ours and not serves_all_tests and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
    return found


@pytest.mark.parametrize("file", _SWEEPS, ids=lambda file: file.stem)
def test_wandb_takes_the_sweep_file_as_it_is(file: Path, server: WandbServer) -> None:
    made = _wandb("sweep", str(file))
    assert made.code == 0, made.err
    assert "Run sweep agent with" in made.err and "Malformed" not in made.err
    (sweep,) = server.sweeps.values()
    content = yaml.safe_load(file.read_text())
    assert sweep.config["command"] == content["command"] and sweep.config["method"] == content["method"]
    assert sweep.config["parameters"].keys() == content["parameters"].keys()


@pytest.mark.slow
def test_an_agent_trains_with_the_sweep_s_values_and_goes_on_after_a_stop(server: WandbServer, tmp_path: Path) -> None:
    """Three runs: one that ends, one on two processes that is stopped from the dashboard, another that ends."""
    fit = ["-m", "pipelines.train", *_FIT, "--trainer.callbacks+=tests.pipelines.test_wandb_sweep.RecordRate"]
    points: list[dict[str, Any]] = [
        {"optimizer.lr": 0.011, "model": {"reg": 0.5}, "trainer.max_epochs": 2},
        {"optimizer.lr": 0.022, "trainer.max_epochs": 100_000, **_TWO},
        {"optimizer.lr": 0.033, "trainer.max_epochs": 1, "data.flip": False},
    ]
    path = _sweep(tmp_path / "sweep.yaml", [*fit, "--config", "${args_json_file}"], points, server)
    # One run that failed would end this agent: a stopped run has not failed.
    environment = {**os.environ, "WANDB_AGENT_MAX_INITIAL_FAILURES": "1", "WANDB_DIR": str(tmp_path)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (tmp_path / "agent.log").open("w") as log:
        agent = subprocess.Popen(
            [sys.executable, "-m", "wandb", "agent", path], env=environment, stdout=log, stderr=log
        )
    runs = tmp_path / "logs" / "softmax"
    try:
        wait_until(lambda: (runs / "trial1" / "checkpoints" / "last.ckpt").exists(), "the second run")
        server.stop("trial1")
        wait_until(lambda: read_status(runs / "trial1").state != "running", "its end")
        assert agent.wait(_DEADLINE_SECONDS) == 0
    finally:
        agent.kill()
        agent.wait()
    assert (read_status(runs / "trial1").state, read_status(runs / "trial1").reason) == ("stopped", "SIGTERM")
    assert read_status(runs / "trial2").state == "finished", (tmp_path / "agent.log").read_text()[-3000:]
    wait_until(lambda: not _processes(tmp_path), f"the end of {_processes(tmp_path)}")

    assert sorted(folder.name for folder in runs.iterdir()) == ["trial0", "trial1", "trial2"] == sorted(server.runs)
    assert [server.runs[f"trial{n}"].exit_code for n in range(3)] == [0, 255, 0]
    recorded = {file.name: float(file.read_text()) for file in tmp_path.glob("rate-*")}
    assert recorded == {"rate-trial0-0": 0.011, "rate-trial1-0": 0.022, "rate-trial1-1": 0.022, "rate-trial2-0": 0.033}
    for n, point in enumerate(points):
        assert server.runs[f"trial{n}"].sweep == path.rpartition("/")[2]
        assert server.runs[f"trial{n}"].config["optimizer.lr"]["value"] == point["optimizer.lr"]
        assert (
            yaml.safe_load((runs / f"trial{n}" / "config.yaml").read_text())["optimizer"]["init_args"]["lr"]
            == (point["optimizer.lr"])
        )
        _assert_arrived(server.runs[f"trial{n}"], runs / f"trial{n}")
    assert server.runs["trial0"].config["model.reg"]["value"] == 0.5
    assert server.runs["trial2"].config["data.flip"]["value"] is False
    assert server.runs["trial0"].summary["val/accuracy"] == pytest.approx(figures(runs / "trial0", "val/accuracy")[-1])
    pictures = [content for name, content in server.runs["trial0"].files.items() if name.endswith(".png")]
    assert len(pictures) >= 3 and all(content.startswith(b"\x89PNG") for content in pictures)


def _assert_arrived(run: Run, folder: Path) -> None:
    for name in ("train/loss", "val/accuracy"):
        assert [row[name] for row in run.history if name in row] == pytest.approx(figures(folder, name)), name


@pytest.mark.slow
def test_a_server_that_dies_takes_nothing_with_it(server: WandbServer, tmp_path: Path) -> None:
    arguments = [*_FIT, "--trainer.max_epochs", "40", "--trainer.callbacks", "[TrainingHealth]"]
    (tmp_path / "alone").mkdir()
    assert run_pipeline("train", arguments, tmp_path / "alone").code == 0
    (tmp_path / "tracked").mkdir()
    environment = {**_account(server, tmp_path), "WANDB_MODE": "online", "WANDB_FINISH_TIMEOUT": "1"}
    environment["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "0.2"
    dying = start_pipeline("train", arguments, tmp_path / "tracked", **environment)
    assert server.streaming.wait(_DEADLINE_SECONDS)
    server.die()
    ended = dying.finish()
    said = ended.err
    assert ended.code == 0 and "send the rest with: " in said, said
    run = only_run(tmp_path / "tracked")
    for name in ("train/loss", "val/accuracy"):
        assert figures(run, name) == figures(only_run(tmp_path / "alone"), name)
    assert sum("val/accuracy" in row for row in server.history) < 40

    second = WandbServer()
    upload = said.rpartition("pipelines.compare ")[2].split()
    sent = run_pipeline("compare", upload, tmp_path / "tracked", **_account(second, tmp_path))
    assert sent.code == 0, sent.out + sent.err
    second.die()
    _assert_arrived(second.runs[run.name], run)


def test_an_exit_status_of_its_own_is_a_failure(server: WandbServer, tmp_path: Path) -> None:
    arguments = [*_FIT, "--trainer.callbacks", "[tests.pipelines.test_wandb_sweep.Leave]"]
    ended = run_pipeline("train", arguments, tmp_path, **_account(server, tmp_path), WANDB_MODE="online")
    assert ended.code == 3, ended.err
    assert server.runs.popitem()[1].exit_code == 3
    assert read_status(only_run(tmp_path)).state == "failed"


def _train(arguments: list[str], folder: Path, **environment: str) -> "subprocess.Popen[str]":
    """Starts it as a shell does a job: in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.train", *arguments], cwd=folder, text=True, stderr=subprocess.PIPE,
        env={**os.environ, "WANDB_MODE": "disabled", "TEST_FOLDER": str(folder), "PYTHONPATH": str(PROJECT),
             **environment}, process_group=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run_pipeline("train", [*NOISY, *LONG], folder).code == 0
    return only_run(folder)


class Tell(Callback):
    """Sends its own process a signal after a step."""

    def __init__(self, step: int, signum: int) -> None:
        self.step, self.signum = step, signum

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.signum)


class TellAtSetup(Callback):
    """Sends its own process SIGTERM before the training."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("step", [35, 40])  # within the second epoch, and at its very end
def test_stopped_and_continued(uninterrupted: Path, tmp_path: Path, signum: int, step: int) -> None:
    tell = f"{{class_path: tests.pipelines.test_wandb_sweep.Tell, init_args: {{step: {step}, signum: {int(signum)}}}}}"
    stopped = run_pipeline("train", [*NOISY, *LONG, f"--trainer.callbacks=[TrainingHealth,{tell}]"], tmp_path)
    assert stopped.code == 128 + signum, stopped.err
    run = only_run(tmp_path)
    go_on = f"python -m pipelines.train fit --ckpt_path {run.relative_to(tmp_path)}"
    reason = "SIGTERM" if signum == signal.SIGTERM else "Ctrl-C"
    assert with_python(stopped.err) == f"Stopped at step {step} by {reason}; continue with: {go_on}\n"
    assert (read_status(run).state, read_status(run).reason) == ("stopped", reason)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step
    continued = run_pipeline("train", [*go_on.split()[3:], "--trainer.callbacks", "[TrainingHealth]"], tmp_path)
    assert continued.code == 0, continued.err
    for name, value in weights(uninterrupted).items():
        assert torch.equal(value, weights(run)[name]), name
    assert [row["step"] for row in rows(run)] == [row["step"] for row in rows(uninterrupted)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [(), ("torch.distributed.run", "--nproc_per_node=2", "-m")], ids=["own", "torchrun"]
)
@pytest.mark.parametrize("to_all", [False, True], ids=["SIGTERM to the first", "Ctrl-C to all"])
def test_two_processes_stop_together(tmp_path: Path, launcher: tuple[str, ...], to_all: bool) -> None:
    two = [word for name, value in _TWO.items() for word in (f"--{name}", str(value))]
    training = subprocess.Popen(
        [sys.executable, "-m", *launcher, "pipelines.train", *_FIT, *two, "--trainer.max_epochs", "100000"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, process_group=0,
        env={**os.environ, "WANDB_MODE": "disabled", "PYTHONPATH": str(PROJECT), "TEST_FOLDER": str(tmp_path)},
    )  # fmt: skip
    try:
        wait_until(lambda: list(tmp_path.glob("logs/softmax/*/checkpoints/last.ckpt")), "training")
        if to_all:
            os.killpg(training.pid, signal.SIGINT)
        else:
            training.terminate()
        said = training.communicate(timeout=_DEADLINE_SECONDS)[1]
    finally:
        training.kill()
    reason = "Ctrl-C" if to_all else "SIGTERM"
    if not launcher:  # torchrun has an exit status of its own
        assert training.returncode == -(signal.SIGINT if to_all else signal.SIGTERM), said
    assert said.count("Stopped at step") == 1 and f" by {reason}; continue with: python -m" in with_python(said)
    wait_until(lambda: not _processes(tmp_path), f"the end of {_processes(tmp_path)}")
    run = only_run(tmp_path)
    assert (read_status(run).state, read_status(run).reason) == ("stopped", reason)
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"Stopped at step {step} " in said  # nothing trained is lost


def test_a_second_ctrl_c_ends_a_run_that_hangs(tmp_path: Path) -> None:
    hanging = [*_FIT, "--trainer.callbacks", "[tests.pipelines.test_wandb_sweep.Hang]"]
    training = start_pipeline("train", hanging, tmp_path)
    wait_until((tmp_path / "hangs").exists, "training")
    training.send_signal(signal.SIGINT)
    time.sleep(1)
    assert training.running
    training.send_signal(signal.SIGINT)
    assert training.finish().code == 130
    assert (read_status(only_run(tmp_path)).state, read_status(only_run(tmp_path)).reason) == ("stopped", "Ctrl-C")


def test_a_stop_before_the_first_step_leaves_no_folder(tmp_path: Path) -> None:
    tell = "{class_path: tests.pipelines.test_wandb_sweep.TellAtSetup}"
    stopped = run_pipeline("train", [*_FIT, f"--trainer.callbacks=[{tell}]"], tmp_path)
    assert (stopped.code, stopped.err) == (143, "Stopped by SIGTERM before the first checkpoint.\n")
    assert not list(tmp_path.glob("logs/softmax/*"))


@pytest.mark.slow
def test_slurm_s_signal_still_writes_its_checkpoint_and_queues_the_job_again(tmp_path: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/queued\n')
    scontrol.chmod(0o755)
    slurm = {
        "SLURM_NTASKS": "1",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "job",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    slurm |= {"SLURM_NODEID": "0", "SLURM_NNODES": "1", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    training = _train([*_FIT, "--trainer.max_epochs", "100000"], tmp_path, **slurm)
    wait_until(lambda: list(tmp_path.glob("logs/softmax/*/checkpoints/last.ckpt")), "training")
    training.send_signal(signal.SIGUSR1)
    wait_until((tmp_path / "queued").exists, "scontrol")
    training.terminate()
    training.communicate(timeout=_DEADLINE_SECONDS)
    assert (tmp_path / "queued").read_text() == "requeue 7\n"
    assert list(only_run(tmp_path).glob("hpc_ckpt_*.ckpt"))
    assert training.returncode == -signal.SIGTERM and read_status(only_run(tmp_path)).state == "stopped"


@pytest.mark.slow
def test_a_launcher_ends_with_its_sweep(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two agents, each with a GPU of its own, two runs; the runs say what they were given."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    write = "import os, sys, pathlib, time; time.sleep(3); pathlib.Path('said-' + os.environ['WANDB_RUN_ID'])"
    write += ".write_text(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + sys.executable + ' ' + ' '.join(sys.argv[1:]))"
    content = {
        "method": "grid",
        "parameters": {"model.reg": {"values": [0.5, 1.5]}},
        "command": ["${env}", "python", "-c", write, "${args}"],
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    run_on_wandb(tmp_path / "sweep.yaml")
    said = [(tmp_path / f"said-trial{n}").read_text().split() for n in (0, 1)]
    assert {gpu for gpu, _, _ in said} == {"3", "5"}
    assert {executable for _, executable, _ in said} == {sys.executable}
    assert [flag for _, _, flag in said] == ["--model.reg=0.5", "--model.reg=1.5"]
    assert capfd.readouterr().out.splitlines() == [
        f"sweep: {server.url}/us/lightning-231n/sweeps/sweep0",
        "join it from other machines with: wandb agent us/lightning-231n/sweep0",
        "agents: 2 on this machine; their output and that of their runs is in logs/sweeps/sweep0",
        "run trial0: model.reg=0.5",
        "run trial1: model.reg=1.5",
    ]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".yaml") == [
        "logs",
        "said-trial0",
        "said-trial1",
    ]


def _launcher_of_two_runs(server: WandbServer, tmp_path: Path) -> "subprocess.Popen[str]":
    """A launcher whose two agents each train a run, one of them on two processes."""
    fit = ["-m", "pipelines.train", *_FIT, "--trainer.max_epochs", "100000", "--config", "${args_json_file}"]
    path = _sweep(tmp_path / "sweep.yaml", fit, [{"optimizer.lr": 0.01, **_TWO}, {"optimizer.lr": 0.02}], server)
    script = "import sys; from pipelines.console.errors import user_errors; from pipelines.search import wandb_engine\n"
    script += "with user_errors(): wandb_engine.run_on_wandb(sys.argv[1], parallel=2)"
    launcher = subprocess.Popen(
        [sys.executable, "-c", script, path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    runs = tmp_path / "logs" / "softmax"
    wait_until(lambda: len(list(runs.glob("*/checkpoints/last.ckpt"))) == 2, "two runs")
    return launcher


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_agent_and_no_run(server: WandbServer, tmp_path: Path) -> None:
    launcher = _launcher_of_two_runs(server, tmp_path)
    assert _processes(tmp_path)
    launcher.kill()
    launcher.communicate(timeout=_DEADLINE_SECONDS)
    wait_until(lambda: not _processes(tmp_path), "the end of agents and runs")
    runs = tmp_path / "logs" / "softmax"
    assert [read_status(runs / run_id).state for run_id in ("trial0", "trial1")] == ["killed", "killed"]


@pytest.mark.slow
def test_ctrl_c_ends_the_launcher_its_agents_and_their_runs(server: WandbServer, tmp_path: Path) -> None:
    launcher = _launcher_of_two_runs(server, tmp_path)
    runs = tmp_path / "logs" / "softmax"
    launcher.send_signal(signal.SIGINT)
    said = launcher.communicate(timeout=_DEADLINE_SECONDS)[1]
    assert launcher.returncode == 130, said
    assert said == "The runs on this machine were stopped; other agents can continue the sweep.\nStopped.\n"
    wait_until(lambda: not _processes(tmp_path), f"the end of {_processes(tmp_path)}")
    for run_id in ("trial0", "trial1"):
        assert (read_status(runs / run_id).state, read_status(runs / run_id).reason) == ("stopped", "Ctrl-C")
        assert server.runs[run_id].exit_code == 255


def test_what_can_t_be_run_is_said_in_a_sentence(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"A W&B agent ended with status 1 .*us/lightning-231n/none not found"):
        run_on_wandb("us/lightning-231n/none")
    with pytest.raises(ValueError, match=r"'none' is not a W&B sweep; give a sweep file, or ENTITY/PROJECT/ID"):
        run_on_wandb("none")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"W&B at 127.0.0.1:9 can't be reached; try again later, .*--engine local"):
        run_on_wandb(_SWEEPS[0])
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(ValueError, match=r"run `wandb login` first, .*--engine local"):
        run_on_wandb(_SWEEPS[0])
