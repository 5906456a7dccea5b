"""The settings with which a checkpoint was written, and which of them a resumed run may change.

A setting given on resume is applied and printed, or refused before anything is written. Refused are the seed, because
the random numbers continue; the model class and settings that act before the first step, because the weights are those
of the checkpoint; and the data set and its split: otherwise training images could become validation images.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from common.errors import UserError
from pipelines.run.config_file import load_config
from pipelines.run.run_folder import RunFolder
from pipelines.tracking.flat_settings import flat_settings

Settings = dict[str, Any]
Changes = dict[str, tuple[Any, Any]]

_FIRST_WEIGHTS = "its weights are those of the checkpoint"
_SPLIT = "images that it was trained on could become validation images, and its metrics would be of other images"
_FIXED = {
    "seed_everything": "its random numbers continue",
    "model": "its weights are of that model",
    **dict.fromkeys(
        ("weight_scale", "pretrained", "checkpoint", "word_vectors", "whitening", "whitening_epsilon", "dirac"),
        _FIRST_WEIGHTS,
    ),
    **dict.fromkeys(
        ("data", "val_fraction", "num_folds", "fold", "split_seed", "year", "num_train", "num_test", "draw_seed"),
        _SPLIT,
    ),
    **dict.fromkeys(("preprocessing", "num_components", "features"), "its model was trained on inputs of that kind"),
}
"""Setting, without `model.` or `data.` → why a resumed run can't change it."""

_STEPS_OF_EPOCH = ("data.batch_size", "data.subset", "data.captions_per_image")  # change the length of an epoch
_PATHS = {"config", "ckpt_path", "data.root", "trainer.default_root_dir", "trainer.logger", "trainer.callbacks"}
_PATHS |= {
    "checkpoint.dirpath",
    "last_checkpoint.dirpath",
    "trainer.enable_progress_bar",
}  # do not affect the training
_OPTIMIZER = ("optimizer", "lr_scheduler", "model")  # have learning rates, momentum and schedules
_GLOBAL_BATCH = ("data.batch_size", "trainer.devices", "trainer.num_nodes", "trainer.accumulate_grad_batches")


class RecordedSettings(Callback):
    """Stores a run's configuration in its checkpoints.

    Args:
        config: The configuration as YAML.
    """

    def __init__(self, config: str) -> None:
        self.config = config

    def state_dict(self) -> dict[str, Any]:
        """Returns the configuration."""
        return {"config": self.config}


def recorded_settings(checkpoint: Mapping[str, Any], run: RunFolder | None) -> Settings | None:
    """Returns the flat settings with which a checkpoint was written; those of its run's config.yaml if it has none."""
    stored = (checkpoint.get("callbacks") or {}).get(RecordedSettings.__name__, {}).get("config")
    if stored is None and run is not None:
        stored = run.config.read_text(encoding="utf-8")
    return None if stored is None else parse_settings(stored)


def parse_settings(config: str) -> Settings:
    """Returns the flat settings of a configuration in YAML, under their current names."""
    loaded = load_config(config)
    return flat_settings(loaded) if isinstance(loaded, dict) else {}


def changes(recorded: Settings, current: Settings) -> Changes:
    """Returns the settings that differ, with both values; file paths, progress bar and W&B do not count."""
    shared = {key for key in recorded.keys() & current.keys() - _PATHS if not key.startswith("wandb.")}
    return {key: (recorded[key], current[key]) for key in current if key in shared and recorded[key] != current[key]}


def check_changes(changed: Changes, mid_epoch: bool) -> None:
    """Refuses changes that a resumed run can't apply.

    Args:
        changed: Changes since the checkpoint.
        mid_epoch: Whether the checkpoint was written in the middle of an epoch.

    Raises:
        ValueError: If a setting is fixed by the checkpoint, or changes the length of an epoch that has begun.
    """
    for key, (old, new) in changed.items():
        prefix, _, name = key.rpartition(".")
        if prefix in ("", "model", "data") and (reason := _FIXED.get(name)) is not None:
            raise UserError(
                f"{key} is {new}, but the run was trained with {old} and can't be resumed with another: {reason}; "
                "leave it as it was, or start a new run."
            )
        if mid_epoch and key in _STEPS_OF_EPOCH:
            raise UserError(
                f"{key} is {new}, but the checkpoint is in the middle of an epoch with {old}; resume without it until "
                "the epoch has ended, and change it then."
            )


def concerns_optimizer(changed: Iterable[str]) -> bool:
    """Returns whether one of the settings may affect an optimizer or its schedule."""
    return any(key.partition(".")[0] in _OPTIMIZER or key in _GLOBAL_BATCH for key in changed)


def check_complete(file: Path, recorded: Settings, current: Settings, given: Iterable[str]) -> None:
    """Refuses a config.yaml that lacks settings with which its run was trained.

    Args:
        file: The config.yaml of the run.
        recorded: Settings in the checkpoint.
        current: Settings of the resumed run: those of the file, of the command line, and the defaults of others.
        given: Names of the settings on the command line.

    Raises:
        ValueError: If a setting is missing and its value now differs from the recorded one.
    """
    present = parse_settings(file.read_text(encoding="utf-8")).keys() | set(given) | _PATHS
    needed = [key for key in recorded if key not in present and not key.startswith("wandb.")]
    lost = [key for key in needed if current.get(key) != recorded[key]]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise UserError(
            f"{file} is incomplete: the run was trained with {lost[0]} {recorded[lost[0]]}{more}, which it lacks; "
            "write it back, or set it on the command line."
        )


def check_model_complete(checkpoint: Mapping[str, Any], run: RunFolder | None, given: Iterable[str] = ()) -> None:
    """Refuses the config.yaml of a run that lacks settings of the model or the data of its checkpoint.

    Args:
        checkpoint: Checkpoint whose model is built from the config.yaml.
        run: Its run; None if the model is built from another configuration.
        given: Names of the settings on the command line.

    Raises:
        ValueError: If a setting is missing whose recorded value is not None.
    """
    recorded = recorded_settings(checkpoint, None)
    if run is not None and recorded is not None:
        of_model = {key: value for key, value in recorded.items() if key.partition(".")[0] in ("model", "data")}
        check_complete(run.config, of_model, {}, given)
