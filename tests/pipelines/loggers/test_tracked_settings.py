"""A dashboard shows the settings that somebody set or that tell runs apart, and what a run has measured itself."""

from pathlib import Path
from typing import Any

import pytest
import torch

import datamodules
from pipelines.loggers.tracked_settings import tracked_settings
from tests.command_line import run_pipeline
from tests.helpers import only_run
from tests.wandb_server import WandbServer


def test_defaults_of_the_trainer_paths_and_null_are_left_out() -> None:
    config: dict[str, Any] = {
        "seed_everything": 0,
        "trainer": {
            "max_epochs": 3, "max_steps": -1, "min_epochs": None, "devices": "auto", "gradient_clip_val": 0.5,
            "default_root_dir": "logs/svm/a", "num_sanity_val_steps": 0,
            "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "x"}},
            "callbacks": [
                {"class_path": "callbacks.Templates", "init_args": {"every_n_epochs": 5}},
                {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"patience": 3, "mode": None}},
            ],
        },
        "model": {"class_path": "modules.LinearSVM", "init_args": {"reg": 0.1, "features": None}},
        "checkpoint": {"monitor": "val/loss", "mode": "min", "save_top_k": 1, "dirpath": "logs/svm/a/checkpoints"},
        "last_checkpoint": {"dirpath": "logs/svm/a/checkpoints", "every_n_train_steps": 100},
        "wandb": {"project": "mine"},
    }  # fmt: skip
    assert tracked_settings(config) == {
        "seed_everything": 0,
        "trainer.max_epochs": 3,
        "trainer.gradient_clip_val": 0.5,
        "trainer.callbacks": "EarlyStopping",
        "trainer.callbacks.EarlyStopping.patience": 3,
        "model": "LinearSVM",
        "model.reg": 0.1,
        "checkpoint.monitor": "val/loss",
        "checkpoint.mode": "min",
        "last_checkpoint.every_n_train_steps": 100,
    }


def test_the_config_on_wandb_is_small_and_tells_what_was_measured(tmp_path: Path) -> None:
    server = WandbServer()
    environment = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.url, "WANDB_MODE": "online"}
    arguments = ["fit", "--config", "svm", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.callbacks=[]"]
    arguments += ["--trainer.accumulate_grad_batches", "2"]
    finished = run_pipeline("train", arguments, tmp_path, **environment)
    server.die()
    assert finished.code == 0, finished.err
    config = {name: entry["value"] for name, entry in server.config.items() if name != "_wandb"}
    assert len(config) <= 60
    assert config["trainer.accumulate_grad_batches"] == 2 and config["optimizer.lr"] == 1e-3
    measured = {"world_size": 1, "num_nodes": 1, "effective_batch_size": 1000, "device": "cpu"}
    assert {name: config[name] for name in measured} == measured
    assert (config["data.train_images"], config["data.val_images"]) == (1293, 144)
    assert len(config["commit"]) == 40 and len(config["data.checksum"]) == 8
    (sent,) = server.runs.values()
    assert sent.settings["tags"] == ["svm", "Digits"]
    assert sent.settings["name"] == only_run(tmp_path, "svm").name != sent.settings["displayName"]


@pytest.mark.parametrize(("name", "sizes"), [("Digits", {}), ("ShapeCaptions", {"num_train": 200, "num_test": 20})])
def test_the_identity_of_data_is_that_of_its_split(name: str, sizes: dict[str, int]) -> None:
    def identity(**settings: Any) -> dict[str, int | str]:
        data = getattr(datamodules, name)(**sizes, **settings)
        data.setup("fit")
        found: dict[str, int | str] = data.identity()
        return found

    first = identity()
    assert first == identity(batch_size=7) and first["train_images"] > first["val_images"] > 0  # type: ignore[operator]
    other = identity(split_seed=1)
    assert other["checksum"] != first["checksum"] and other["train_images"] == first["train_images"]


def test_a_changed_pixel_of_the_first_image_changes_the_checksum() -> None:
    data = datamodules.Digits()
    data.setup("fit")
    before = data.identity()["checksum"]
    images, labels = data.splits["train"]
    changed = images.clone()
    changed[0, 0, 0, 0] ^= torch.tensor(1, dtype=torch.uint8)
    data.splits["train"] = changed, labels
    assert data.identity()["checksum"] != before
