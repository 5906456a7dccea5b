"""The settings of a run that a dashboard shows: those that a user set, and those by which runs differ.

Half of a run's config.yaml are defaults of Lightning's Trainer and checkpoints, and null.
"""

import subprocess
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer

from pipelines.settings.classes import GROUPS
from pipelines.tracking.flat_settings import flat_settings, flatten_classes

_GIT_SECONDS = 2.0
_KEPT = ("checkpoint.monitor", "checkpoint.mode")
_LEFT_OUT = {
    # set by every run, or of no consequence for its results
    *("trainer.default_root_dir", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.logger"),
    *("trainer.num_sanity_val_steps", "checkpoint.dirpath", "checkpoint.filename", "checkpoint.enable_version_counter"),
    *("last_checkpoint.dirpath", "weights_only", "ckpt_path", "verbose"),
}


def tracked_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the flat settings of a configuration without null, paths and the defaults of the Trainer."""
    settings: dict[str, Any] = {}
    for key, value in flat_settings(config).items():
        settings |= flatten_classes(key, value)
    return {key: value for key, value in settings.items() if _is_shown(key, value)}


def _is_shown(key: str, value: Any) -> bool:
    if value is None or key in _LEFT_OUT or key.startswith(("trainer.logger.", "wandb.")):
        return False
    return key in _KEPT or value != _defaults().get(key)


@cache
def _defaults() -> dict[str, Any]:
    """Returns the defaults of the settings whose class is fixed, such as `trainer.max_steps`."""
    return {
        f"{group}.{parameter.name}": parameter.default
        for group, owner in GROUPS.items()
        for parameter in signature(owner).parameters.values()
    } | {f"trainer.{name}": "auto" for name in ("accelerator", "strategy", "devices")}


def measured_settings(trainer: Trainer, data: LightningDataModule) -> dict[str, Any]:
    """Returns what a run's results depend on beside its configuration: devices, effective batch, commit and data.

    Args:
        trainer: Trainer of the run, once it trains.
        data: Its data module.
    """
    device = trainer.strategy.root_device
    accumulated: int = trainer.accumulate_grad_batches
    batch_size: int | None = getattr(data, "batch_size", None)
    identity = data.identity() if hasattr(data, "identity") else {}
    measured = {
        "world_size": trainer.world_size,
        "num_nodes": trainer.num_nodes,
        "effective_batch_size": batch_size and batch_size * trainer.world_size * accumulated,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "commit": commit(),
        **{f"data.{name}": value for name, value in identity.items()},
    }
    return {name: value for name, value in measured.items() if value is not None}


@cache
def commit() -> str | None:
    """Returns the commit of the project's files; None if they are not in a git repository."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
