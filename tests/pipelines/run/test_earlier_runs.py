"""Runs that version 0.1 wrote, under its names of settings and class paths: their figures and their next epoch.

`earlier_runs/` has their config.yaml and last.ckpt; `figures.json` what version 0.1 itself measured: the loss on the
test images, and on the validation images after one epoch more.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.earlier_names import RENAMED, current_class_path, current_config
from modules import CaptionTransformer, FullyConnectedNet
from pipelines.run.config_file import with_current_names
from tests.command_line import run_pipeline
from tests.helpers import figures

RUNS = Path(__file__).parent / "earlier_runs"
FIGURES: dict[str, dict[str, Any]] = json.loads((RUNS / "figures.json").read_text())


def restored(topic: str, folder: Path) -> Path:
    run = folder / "logs" / topic / "earlier"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(RUNS / topic / "config.yaml", run)
    shutil.copy(RUNS / topic / "last.ckpt", run / "checkpoints")
    return run


@pytest.mark.parametrize(
    "topic", [pytest.param(topic, marks=[pytest.mark.slow] if topic != "fc_net" else []) for topic in FIGURES]
)
def test_a_run_of_version_0_1_is_tested_and_continued_to_the_same_figures(topic: str, tmp_path: Path) -> None:
    run = restored(topic, tmp_path)
    tested = run_pipeline("train", ["test", "--ckpt_path", f"logs/{topic}/earlier/checkpoints/last.ckpt"], tmp_path)
    assert tested.code == 0, tested.err
    assert figures(run, "test/loss")[-1] == pytest.approx(FIGURES[topic]["test/loss"], rel=1e-4)
    again = run_pipeline(
        "train",
        ["fit", "--ckpt_path", f"logs/{topic}/earlier", "--trainer.max_epochs", str(FIGURES[topic]["max_epochs"])],
        tmp_path,
    )
    assert again.code == 0, again.err
    assert figures(run, "val/loss")[-1] == pytest.approx(FIGURES[topic]["val/loss"], rel=1e-3)
    written = (run / "config.yaml").read_text()
    assert with_current_names(written) == written  # the continued run is recorded under the names of today


def test_python_code_reads_the_settings_of_an_earlier_checkpoint() -> None:
    model = FullyConnectedNet.load_from_checkpoint(RUNS / "fc_net" / "last.ckpt")
    assert [layer.p for layer in model.modules() if type(layer).__name__ == "Dropout"] == [0.2, 0.2]


def test_every_class_path_of_version_0_1_resolves() -> None:
    assert current_class_path("modules.conv_net.ConvNet") == "modules.ConvNet"
    assert current_class_path("modules.muon.Muon") == "modules.optimizers.muon.Muon"
    assert current_class_path("datamodules.coco.COCOCaptions") == "datamodules.COCOCaptions"
    assert current_class_path("callbacks.judge.SampleQuality") == "callbacks.SampleQuality"
    for path in ("modules.ConvNet", "modules.optimizers.muon.Muon", "torch.optim.SGD", "my_file.MyNet"):
        assert current_class_path(path) == path


def test_settings_get_their_names_of_today_and_nothing_else_changes() -> None:
    model = {"class_path": "modules.conv_net.ConvNet", "init_args": {"keep_prob": 0.8, "channels": [4]}}
    callback = {"class_path": "callbacks.NearestTrainingImages", "init_args": {"neighbours": 3}}
    config = {"model": model, "trainer": {"callbacks": [callback]}}
    assert current_config(config) == {
        "model": {"class_path": "modules.ConvNet", "init_args": {"dropout": 0.2, "channels": [4]}},
        "trainer": {"callbacks": [{"class_path": "callbacks.NearestTrainingImages", "init_args": {"neighbors": 3}}]},
    }
    untouched = "model:\n  class_path: my_file.MyNet\n  init_args: {keep_prob: 0.8, name: a}\n"
    assert with_current_names(untouched) == untouched
    assert yaml.safe_load(with_current_names("model: {class_path: modules.SimCLR, init_args: {name: resnet18}}")) == {
        "model": {"class_path": "modules.SimCLR", "init_args": {"backbone": "resnet18"}}
    }


@pytest.mark.parametrize(
    ("topic", "old", "new"),
    [
        ("fc_net", "keep_prob", "dropout now, the probability of dropping: 1 − keep_prob"),
        ("resnet", "name", "backbone now"),
        ("linear_probe", "freeze_encoder", "freeze_backbone now"),
        ("fast_convnet", "views", "test_time_augmentation now"),
    ],
)
def test_an_earlier_name_on_the_command_line_is_answered_with_the_new_one(
    topic: str, old: str, new: str, tmp_path: Path
) -> None:
    finished = run_pipeline("train", ["fit", "--config", topic, f"--model.{old}", "0.5"], tmp_path)
    assert finished.code == 2 and f"has no setting '{old}' any more; it is called {new}." in finished.err
    assert not (tmp_path / "logs").exists()


def test_every_renamed_setting_exists() -> None:
    import callbacks
    import datamodules
    import modules
    from pipelines.console.argument_errors import _settings

    for name, settings in RENAMED.items():
        room = next(room for room in (modules, datamodules, callbacks) if hasattr(room, name))
        assert set(settings.values()) <= set(_settings(f"{room.__name__}.{name}")), name
    assert "keep_prob" not in _settings(f"modules.{CaptionTransformer.__name__}")
