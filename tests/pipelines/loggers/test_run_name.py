"""A run is called by topic, data set and what sets it apart from its topic."""

import json
from pathlib import Path

import pytest

from pipelines.loggers.run_name import run_name

SVM = ["fit", "--config", "pipelines/configs/svm.yaml"]


@pytest.mark.parametrize(
    ("arguments", "apart"),
    [
        ([], ""),
        (["--optimizer.lr", "3e-3", "--model.reg=0.5"], " · lr 3e-3 · reg 0.5"),
        (["--optimizer.lr", "0.00314159265", "--seed_everything", "3"], " · lr 0.003142 · seed 3"),
        (["--model.reg", "0.10", "--data", "MNIST"], ""),  # as in the configuration
        (["--optimizer", "torch.optim.Adam", "--optimizer.lr", "1e-4"], " · Adam · lr 1e-4"),
        (["--trainer.max_epochs", "5", "--trainer.max_epochs", "7"], " · max_epochs 7"),
        (["--wandb.tags", "[a]", "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "x"], ""),
        (["--trainer.devices", "2", "--data.root", "/data", "--trainer.callbacks+=Timer"], ""),
        (["--model.a.size", "1", "--data.size", "2"], " · model.a.size 1 · data.size 2"),
        (["--data.subset", "null", "--data.flip", "false"], " · subset null · flip false"),
    ],
)
def test_what_sets_a_run_apart(arguments: list[str], apart: str) -> None:
    assert run_name("svm", "CIFAR10", [*SVM, *arguments]) == f"svm · CIFAR10{apart}"


def test_the_values_of_a_sweep_are_in_the_name(tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_text(json.dumps({"optimizer.lr": 0.01, "model": {"reg": 1e-7}, "data.flip": True}))
    name = run_name("svm", "Digits", [*SVM, "--config", str(tmp_path / "trial.json")])
    assert name == "svm · Digits · lr 0.01 · reg 1e-07"


def test_a_name_is_never_longer_than_wandb_takes() -> None:
    many = [f"--model.setting_{number}={number}" for number in range(30)]
    name = run_name("svm", "Digits", [*SVM, *many])
    assert name.startswith("svm · Digits · setting_0 0 · setting_1 1") and name.endswith(" · …") and len(name) <= 128
    assert len(run_name("t" * 200, "Digits", SVM)) == 128
