"""A run that a cluster takes away is marked on W&B, one that a sweep or a person stops is not."""

import signal
from pathlib import Path

import pytest

from pipelines.tracking.preemption import is_preemption
from tests.command_line import run_pipeline
from tests.helpers import only_run
from tests.pipelines.syncing.killed_runs import FIT, account
from tests.wandb_server import WandbServer


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_SWEEP_ID", "LIGHTNING_231N_LAUNCHER"):
        monkeypatch.delenv(name, raising=False)


def test_the_signals_that_clusters_send_are_preemptions(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
    assert all(map(is_preemption, warnings))
    assert not any(map(is_preemption, (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert is_preemption(signal.SIGTERM) and not is_preemption(signal.SIGINT)
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")  # whose agent stops hopeless runs by it
    assert not is_preemption(signal.SIGTERM) and all(map(is_preemption, warnings))


@pytest.mark.parametrize(("signum", "state"), [(signal.SIGUSR2, "preempted"), (signal.SIGTERM, "failed")])
def test_a_stopped_run_is_preempted_by_a_warning_alone(tmp_path: Path, signum: int, state: str) -> None:
    server = WandbServer()
    tell = f"{{class_path: tests.pipelines.test_wandb_sweep.Tell, init_args: {{step: 5, signum: {int(signum)}}}}}"
    stopped = run_pipeline("train", [*FIT, f"--trainer.callbacks=[{tell}]"], tmp_path, **account(server, tmp_path))
    server.die()
    assert stopped.code == 128 + signum, stopped.err
    assert server.runs[only_run(tmp_path).name].state == state
