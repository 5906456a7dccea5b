"""What tests of several files share: a quiet trainer, and what the folder of a run holds."""

import csv
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback


def trainer_of(folder: Path, *callbacks: Callback, **settings: Any) -> L.Trainer:
    """Returns a trainer on the CPU that prints, logs and keeps nothing unless `settings` say so."""
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    return L.Trainer(accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **{**quiet, **settings})


def wait_until(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Waits until a condition holds; fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def with_python(said: str) -> str:
    """Returns what a command printed, with `python` for the path of the interpreter that the printed commands name."""
    return re.sub(r"\S*python\S* -m pipelines\.", "python -m pipelines.", said)


def only_run(folder: Path, topic: str = "softmax") -> Path:
    """Returns the folder of the only run that a topic has in a working folder."""
    (run,) = (folder / "logs" / topic).iterdir()
    return run


def rows(run: Path) -> list[dict[str, str]]:
    """Returns the rows of a run's metrics.csv without its speed, which no two runs share."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "images_per_s" not in k} for row in csv.DictReader(file)]


def numbers(run: Path) -> list[dict[str, float]]:
    """Returns the rows as numbers, each with the metrics that it has."""
    return [{name: float(value) for name, value in row.items() if value} for row in rows(run)]


def figures(run: Path, name: str) -> list[float]:
    """Returns all values of a metric in the order in which they were logged."""
    return [row[name] for row in numbers(run) if name in row]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Returns the state_dict of a run's last checkpoint."""
    stored: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return stored
