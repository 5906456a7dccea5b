"""Every private name of a library that the project uses, so that a new version of a library can be checked at a glance.

A private name may change in any release: requirements.txt keeps these libraries below their next one.
"""

import ast
from pathlib import Path
from typing import Any

import jsonargparse
import optuna
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule, Trainer, cli
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loops import fetchers, training_epoch_loop
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.modules import batchnorm, dropout
from wandb_workspaces.reports.v2 import ParallelCoordinatesPlotColumn

PROJECT = Path(__file__).resolve().parents[1]
_LOOP = training_epoch_loop._TrainingEpochLoop(None)  # type: ignore[arg-type]
ROOMS = ("common", "modules", "datamodules", "callbacks", "pipelines")

PRIVATE: dict[str, tuple[str, Any]] = {
    # name: library in requirements.txt, what has it
    "_PATH": ("lightning", __import__("lightning.fabric.utilities.types", fromlist=["_PATH"])),
    "_DataFetcher": ("lightning", fetchers),
    "_InstantiatorFn": ("lightning", cli),
    "_TrainingEpochLoop": ("lightning", training_epoch_loop),
    "_add_instantiators": ("lightning", LightningCLI),
    "_batches_that_stepped": ("lightning", _LOOP),
    "_clip_gradients": ("lightning", Precision),
    "_ddp_kwargs": ("lightning", DDPStrategy()),
    "_experiment": ("lightning", WandbLogger(offline=True)),
    "_experiment_name": ("lightning", None),  # of MLFlowLogger, which needs mlflow
    "_log_model": ("lightning", WandbLogger(offline=True)),
    "_mlflow_client": ("lightning", None),
    "_offline": ("lightning", WandbLogger(offline=True)),
    "_run_id": ("lightning", None),
    "_wandb_init": ("lightning", WandbLogger(offline=True)),
    "_get": ("lightning", LightningCLI),
    "_logger_connector": ("lightning", Trainer(logger=False, enable_checkpointing=False)),
    "_num_ready_batches_reached": ("lightning", _LOOP),
    "_on_before_batch_transfer": ("lightning", LightningModule),
    "_results": ("lightning", _LOOP),
    "_save_loggers_on_train_batch_end": ("lightning", _LOOP),
    "_dump_config": ("lightning", LightningCLI),
    "_parse_ckpt_path": ("lightning", LightningCLI),
    "_prepare_subcommand_parser": ("lightning", LightningCLI),
    "_run_subcommand": ("lightning", LightningCLI),
    "_subcommand_method_arguments": ("lightning", None),  # set by LightningCLI when it has made its parsers
    "_subcommand_parsers": ("lightning", None),
    "_last_global_step_saved": ("lightning", ModelCheckpoint()),
    "_save_checkpoint": ("lightning", ModelCheckpoint),
    "_save_topk_checkpoint": ("lightning", ModelCheckpoint),
    "_enable_version_counter": ("lightning", ModelCheckpoint()),
    "_every_n_train_steps": ("lightning", ModelCheckpoint()),
    "_train_time_interval": ("lightning", ModelCheckpoint()),
    "_instantiate_trainer": ("lightning", LightningCLI),
    "_actions": ("jsonargparse", ArgumentParser()),
    "_loaders_dumpers": ("jsonargparse", jsonargparse),
    "_study_id": ("optuna", optuna.create_study()),
    "_trial_id": ("optuna", optuna.trial.FrozenTrial),
    "_BatchNorm": ("torch", batchnorm),
    "_DropoutNd": ("torch", dropout),
    "_foreach_copy_": ("torch", torch),
    "_foreach_lerp_": ("torch", torch),
    "_C": ("torch", torch),
    "_functorch": ("torch", torch._C),
    "_int_mm": ("torch", torch),
    "_to_model": ("wandb-workspaces", ParallelCoordinatesPlotColumn),
    "_load_from_state_dict": ("torch", LightningModule),
}
PUBLIC = {"_make", "_replace", "_asdict", "_exit"}  # documented, of namedtuple and os


def test_every_private_name_in_use_is_listed() -> None:
    used: set[str] = set()
    for file in (file for room in ROOMS for file in (PROJECT / room).rglob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.FunctionDef):
                used.add(node.name)
    ours = _our_names()
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    assert private - ours - PUBLIC == PRIVATE.keys() - ours
    assert PRIVATE.keys() <= private, "a name that is no longer used"


def _our_names() -> set[str]:
    """Private names that the project's own classes and functions define."""
    names: set[str] = set()
    for file in (file for room in ROOMS for file in (PROJECT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names - PRIVATE.keys()


def test_each_is_there_in_the_installed_version() -> None:
    missing = [
        name for name, (_, owner) in PRIVATE.items() if owner is not None and not hasattr(owner, name)
        and name not in getattr(owner, "__annotations__", {}) and name not in getattr(owner, "__slots__", ())
    ]  # fmt: skip
    assert missing == ["_trial_id"] or missing == []


def test_requirements_keep_each_library_below_its_next_private_change() -> None:
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    bounds = {line.split("[")[0].split(">")[0]: line for line in lines if line and line[0] != "#"}
    for library in {library for library, _ in PRIVATE.values()}:
        assert ",<" in bounds[library], f"{bounds[library]} has no upper bound"
