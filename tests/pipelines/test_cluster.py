"""On a cluster: processes that `srun` or `torchrun` started are one run, and docs/cluster.md tells the truth.

No SLURM is needed: its variables are set as `srun` sets them, and its commands are stand-ins that note how they were
called.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipelines.sweep import parser as sweep_parser
from tests.command_line import PROJECT, run_pipeline
from tests.helpers import numbers, only_run, weights

GUIDE = PROJECT / "docs" / "cluster.md"
SCRIPTS = sorted((PROJECT / "docs" / "cluster").glob("*.sbatch"))
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "WANDB_"))},
    "PYTHONPATH": str(PROJECT),
    "OMP_NUM_THREADS": "1",
    "WANDB_MODE": "offline",
}
FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.crop_padding", "1", "--data.flip", "true",
    "--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "5", "--optimizer.lr", "0.05",
    "--trainer.accelerator", "cpu", "--trainer.callbacks", "[]",
]  # fmt: skip
DDP = ["--data.batch_size", "32", "--trainer.strategy", "ddp"]
TWO_NODES = ["--trainer.num_nodes", "2", "--trainer.devices", "1"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def srun(command: list[str], folder: Path, nodes: int, **more: str) -> list[str]:
    """Starts a command as `srun` does, once on each node, and returns what each has printed."""
    step = {
        "SLURM_CLUSTER_NAME": "hill",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "train",
        "SLURM_STEP_ID": "0",
        "SLURM_NNODES": str(nodes),
        "SLURM_NTASKS": str(nodes),
        "SLURM_NTASKS_PER_NODE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        **more,
    }
    processes = []
    for rank in range(nodes):
        task = {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank), "SLURM_LOCALID": "0"}
        processes.append(
            subprocess.Popen(
                ["sh", "-c", 'SLURM_TASK_PID=$$ exec "$@"', "sh", *command],
                cwd=folder,
                env={**ENVIRONMENT, **step, **task},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return finished(processes)


def finished(processes: list["subprocess.Popen[str]"]) -> list[str]:
    outputs = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=100)
            assert process.returncode == 0, err
            outputs.append(out)
    finally:
        for process in processes:
            process.kill()  # does nothing to one that has ended
    return outputs


def tracked_run(folder: Path) -> Path:
    run = only_run(folder)
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1
    return run


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process with batches of 64."""
    folder = tmp_path_factory.mktemp("single")
    finished_run = run_pipeline("train", [*FIT, "--data.batch_size", "64"], folder, WANDB_MODE="offline")
    assert finished_run.code == 0, finished_run.err
    return tracked_run(folder)


def assert_same_training(run: Path, single: Path) -> None:
    torch.testing.assert_close(*(weights(one)["linear.weight"] for one in (run, single)), rtol=1e-4, atol=1e-6)
    found, expected = (
        {row["step"]: row["train/loss"] for row in numbers(one) if "train/loss" in row} for one in (run, single)
    )
    assert len(expected) > 2
    assert found == pytest.approx(expected, rel=1e-4)


NEW_ID = [
    sys.executable,
    "-c",
    "from pipelines.run.run_folder import RunFolder; print(RunFolder.new('softmax').run_id)",
]


def test_all_processes_of_an_srun_agree_on_the_run_folder(tmp_path: Path) -> None:
    assert srun(NEW_ID, tmp_path, nodes=2) == ["hill-4711-0\n"] * 2
    assert srun(NEW_ID, tmp_path, nodes=2, SLURM_RESTART_COUNT="1") == ["hill-4711-0\n"] * 2  # a requeued job
    assert srun(NEW_ID, tmp_path, nodes=2, SLURM_STEP_ID="1") == ["hill-4711-1\n"] * 2  # the script's second srun
    assert srun(NEW_ID, tmp_path, nodes=2, WANDB_RUN_ID="mine") == ["mine\n"] * 2


def test_runs_of_a_shell_within_an_srun_have_their_own_folders(tmp_path: Path) -> None:
    (out,) = srun(["sh", "-c", 2 * f"{shlex.join(NEW_ID)}; "], tmp_path, nodes=1)
    first, second = out.split()
    assert first != second
    assert "4711" not in out


@pytest.mark.slow
def test_srun_on_two_nodes_trains_as_one_process_does(tmp_path: Path, single: Path) -> None:
    command = [sys.executable, "-m", "pipelines.train", *FIT, *DDP, *TWO_NODES]
    outputs = srun(command, tmp_path, nodes=2)
    assert "2 × cpu" in outputs[0]
    assert outputs[1] == ""
    run = tracked_run(tmp_path)
    assert run.name == "hill-4711-0"
    assert_same_training(run, single)


@pytest.mark.slow
def test_torchrun_on_two_nodes_trains_as_one_process_does(tmp_path: Path, single: Path) -> None:
    """As in the guide, with both nodes on this machine."""
    rendezvous = ["--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}", "--rdzv_id=1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", *rendezvous]
    command = [*launcher, "-m", "pipelines.train", *FIT, *DDP, *TWO_NODES]
    finished(
        [
            subprocess.Popen(
                [*command[:4], f"--node_rank={rank}", *command[4:]],
                cwd=tmp_path,
                env={**ENVIRONMENT, "LOGLEVEL": "ERROR"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
    )
    assert_same_training(tracked_run(tmp_path), single)


# -- the scripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_bash_and_in_the_guide(script: Path) -> None:
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"docs/cluster/{script.name}" in GUIDE.read_text()


class Cluster:
    """A folder with stand-ins for a cluster's commands, each of which notes its arguments and the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()

    def command(self, name: str, does: str = "") -> None:
        """Puts a stand-in on the PATH."""
        file = self.bin / name
        file.write_text(f'#!/bin/bash\nenv > "{self.folder}/{name}.env"\necho "{name} $*" >> calls\n{does}\n')
        file.chmod(0o755)

    def submit(self, script: str, arguments: list[str], **environment: str) -> tuple[int, list[str]]:
        """Runs a script as SLURM would; returns its status and the commands that it called."""
        calls = self.folder / "calls"
        calls.unlink(missing_ok=True)
        job = {
            "SLURM_CLUSTER_NAME": "hill",
            "SLURM_JOB_ID": "4711",
            "SLURM_NNODES": "2",
            "SLURM_NTASKS": "8",
            "SLURM_NTASKS_PER_NODE": "4",
            "SLURM_CPUS_PER_TASK": "3",
            "PYTHON": str(self.bin / "python"),
        }
        path = f"{self.bin}:{ENVIRONMENT['PATH']}"
        command = ["bash", str(PROJECT / "docs" / "cluster" / script), *arguments]
        environment = {**ENVIRONMENT, **job, "PATH": path, **environment}
        done = subprocess.run(command, cwd=self.folder, env=environment, timeout=60, capture_output=True)
        return done.returncode, calls.read_text().splitlines()

    def variables(self, name: str) -> dict[str, str]:
        """The environment that a stand-in was called with."""
        lines = (self.folder / f"{name}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_training_script_passes_on_what_the_command_line_takes(cluster: Cluster, tmp_path: Path) -> None:
    cluster.command("srun", "exit 3")
    status, (call,) = cluster.submit("train.sbatch", ["--config", "softmax", "--data", "Digits"])
    assert status == 3  # SLURM's accounting has the run's own status
    arguments = call[call.index("pipelines.train") :].split()[1:]
    assert "--ckpt_path" not in arguments
    printed = run_pipeline("train", [*arguments, "--print_config"], tmp_path)
    assert printed.code == 0, printed.err
    assert re.search(r"^  devices: '?4'?$", printed.out, re.M)
    assert re.search(r"^  num_nodes: 2$", printed.out, re.M)
    assert cluster.variables("srun")["WANDB_RUN_ID"] == "hill-4711"
    assert cluster.variables("srun")["OMP_NUM_THREADS"] == "3"


def test_training_script_goes_on_after_a_requeue(cluster: Cluster) -> None:
    cluster.command("srun")
    last = cluster.folder / "logs" / "softmax" / "hill-4711" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    status, (call,) = cluster.submit("train.sbatch", ["--config", "softmax"])
    assert status == 0
    assert call.endswith(f"--config softmax --ckpt_path {last.relative_to(cluster.folder)}")


@pytest.mark.parametrize("ends_with", [143, 0])
def test_training_script_requeues_what_the_time_limit_stopped(cluster: Cluster, ends_with: int) -> None:
    """The stand-in for `srun` signals the script as SLURM does, and ends when process 0 of the run gets SIGTERM."""
    listing = (
        "printf 'PID JOBID STEPID LOCALID GLOBALID\\n%s 4711 0 0 0\\n1 4711 0 1 1\\n2 4711 0 - -\\n3 4711 batch 0 0\\n'"
    )
    cluster.command("scontrol", f'[ $1 = listpids ] && {listing} "$(cat task)"')
    waits = f"trap 'exit {ends_with}' TERM; echo $$ > task; kill -USR1 $PPID; while :; do sleep 0.05; done"
    cluster.command("srun", waits)
    status, calls = cluster.submit("train.sbatch", ["--config", "softmax"])
    assert status == ends_with
    assert calls[1] == "scontrol listpids 4711"
    assert calls[2:] == (["scontrol requeue 4711"] if ends_with else [])


def test_sweep_script_asks_for_one_trial_that_knows_nothing_of_slurm(cluster: Cluster) -> None:
    cluster.command("wandb")
    assert cluster.submit("sweep.sbatch", ["me/ours/abc"]) == (0, ["wandb agent --count 1 me/ours/abc"])
    seen = cluster.variables("wandb")
    assert not [name for name in seen if name.startswith("SLURM_")]
    assert seen["PATH"].split(":")[0] == str(cluster.bin)  # the sweep file's `python` is PYTHON
    assert seen["OMP_NUM_THREADS"] == "3"


def test_local_sweep_script_starts_a_sweep_or_helps_one(cluster: Cluster) -> None:
    cluster.command("python")
    sweep = cluster.folder / "logs" / "sweeps" / "one"
    sweep.mkdir(parents=True)
    starts, helps = ["sweeps/softmax.yaml", "--run-cap", "4"], ["logs/sweeps/one"]
    for arguments, command in ((starts, "run --engine local"), (helps, "resume")):
        status, (call,) = cluster.submit("local_sweep.sbatch", arguments)
        assert (status, call) == (0, f"python -m pipelines.sweep {command} {' '.join(arguments)}")
        given = sweep_parser().parse_args(call.split()[3:])
        assert given.command == command.split()[0]
        assert not [name for name in cluster.variables("python") if name.startswith("SLURM_")]


# -- the guide --------------------------------------------------------------------------------------------------------


def commands(pipeline: str) -> list[list[str]]:
    """The arguments of each `-m pipelines.<pipeline>` in the guide's blocks and in the scripts' examples."""
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)).replace("\\\n", " ")
    found = re.findall(rf"-m pipelines\.{pipeline} (.*?)(?:\s#.*)?$", blocks, re.M)
    submitted = {"train": "fit ", "sweep": "run "}[pipeline]
    script = {"train": "train", "sweep": "local_sweep"}[pipeline]
    texts = blocks + "\n".join(script.read_text() for script in SCRIPTS)
    found += [
        submitted + given for given in re.findall(rf"docs/cluster/{script}\.sbatch (-\S.*|sweeps/.*)$", texts, re.M)
    ]
    return [shlex.split(command) for command in found]


def test_every_training_command_of_the_guide_is_accepted(tmp_path: Path) -> None:
    found = [arguments for arguments in commands("train") if "--ckpt_path" not in arguments]
    assert len(found) >= 4
    for arguments in found:
        printed = run_pipeline("train", [*arguments, "--print_config"], tmp_path)
        assert printed.code == 0, (arguments, printed.err)


def test_every_sweep_command_of_the_guide_is_accepted() -> None:
    found = commands("sweep")
    assert len(found) >= 2
    for arguments in found:
        given = sweep_parser().parse_args(arguments)
        if given.command == "run":
            assert (PROJECT / given.file).is_file()
