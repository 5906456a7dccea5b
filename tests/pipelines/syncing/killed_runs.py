"""Runs that are killed and go on, and what W&B must have of them."""

import time
from pathlib import Path

import pytest

from pipelines.syncing.arrived import STEP, read_rows
from tests.command_line import Finished, run_pipeline
from tests.helpers import only_run
from tests.wandb_server import Run, WandbServer

ORPHAN_SECONDS = 3.0  # in which W&B's own process, which outlives a killed run, sends what it has and ends
FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.batch_size", "64", "--trainer.log_every_n_steps", "5",
    "--trainer.max_epochs", "4",
]  # fmt: skip


def account(server: WandbServer, folder: Path) -> dict[str, str]:
    return {
        "WANDB_MODE": "online", "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.url, "NETRC": str(folder / "netrc"),
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1", "WANDB_CONFIG_DIR": str(folder),
    }  # fmt: skip


def kill_at(step: int, seconds: float = 0.0) -> str:
    """Returns the callbacks of a run that is killed after a step; in 3 seconds W&B's client sends all that it has."""
    kill = f"{{class_path: tests.kill.KillAtStep, init_args: {{step: {step}, seconds: {seconds}}}}}"
    return f"--trainer.callbacks=[TrainingHealth,Templates,{kill}]"


def killed_and_resumed(folder: Path, first: dict[str, str], second: dict[str, str], seconds: float = 0.0) -> Path:
    """Returns a run that was killed in its third epoch and continued in another environment."""
    killed = run_pipeline("train", [*FIT, kill_at(47, seconds)], folder, **first)
    assert killed.code == -9, killed.err
    time.sleep(ORPHAN_SECONDS)
    run = only_run(folder)
    resume(run, folder, second)
    return run


def resume(run: Path, folder: Path, environment: dict[str, str], *more: str) -> Finished:
    again = ["fit", "--ckpt_path", str(run), "--trainer.callbacks", "[TrainingHealth,Templates]", *more]
    resumed = run_pipeline("train", again, folder, **environment)
    assert resumed.code == 0, resumed.err
    return resumed


def assert_once(tracked: Run, run: Path) -> None:
    """W&B has the rows of metrics.csv, each once, and the templates of each epoch once."""
    own = (STEP, "_step", "_runtime", "_timestamp", "health/images_per_s")  # no two attempts have the same speed
    sent = [(row[STEP], {name: row[name] for name in row if name not in own}) for row in tracked.history]
    numbers = [(step, row) for step, row in sent if not any(isinstance(value, dict) for value in row.values())]
    assert [step for step, _ in numbers] == [row.step for row in read_rows(run / "metrics.csv")]
    for (_, metrics), row in zip(numbers, read_rows(run / "metrics.csv"), strict=True):
        assert metrics == pytest.approx({name: value for name, value in row.metrics.items() if name not in own})
    assert [row["_step"] for row in tracked.history] == list(range(len(tracked.history)))
    pictures = [step for step, row in sent if "templates" in row]
    assert len(pictures) == len(set(pictures))
