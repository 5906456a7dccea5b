"""Checkpoints without a part of their state: what they lack is said, and what can be done with them is done."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.command_line import Finished, run_pipeline
from tests.helpers import only_run

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--data.batch_size", "64",
    "--trainer.callbacks", "null", "--trainer.max_epochs", "1", "--checkpoint.save_weights_only", "true",
]  # fmt: skip
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    finished = run_pipeline("train", FIT, folder)
    assert finished.code == 0, finished.err
    return only_run(folder)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "logs" / "softmax" / "copy"))


def command(run: Path, *arguments: str) -> Finished:
    return run_pipeline("train", list(arguments), run.parents[2])


def change(run: Path, alter: Change) -> None:
    file = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    alter(checkpoint)
    torch.save(checkpoint, file)


def test_weights_alone_are_tested_and_training_names_the_checkpoint_to_continue_from(run: Path) -> None:
    best = "logs/softmax/copy/checkpoints/best.ckpt"
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    finished = command(run, "fit", "--ckpt_path", best, "--trainer.max_epochs", "2")
    assert (finished.code, finished.err) == (
        2,
        f"error: Training can't continue from {best}, which lacks its optimizer state, schedule, state of random "
        "numbers and callbacks (as checkpoints with save_weights_only); continue from "
        "logs/softmax/copy/checkpoints/last.ckpt. Its weights can be used by test, validate, predict, export and the "
        "other commands.\n",
    )
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    tested = command(run, "test", "--ckpt_path", best)
    assert tested.code == 0 and "test/accuracy " in tested.out, tested.err
    exported = run_pipeline("export", [best, "--format", "safetensors"], run.parents[2])
    assert exported.code == 0, exported.err


def test_a_state_dict_alone_is_tested(run: Path) -> None:
    change(run, lambda stored: [stored.pop(key) for key in list(stored) if key != "state_dict"])
    last = str(run / "checkpoints" / "last.ckpt")
    tested = command(run, "test", "--ckpt_path", last)
    assert tested.code == 0 and "test/accuracy " in tested.out, tested.err
    finished = command(run, "fit", "--ckpt_path", last, "--trainer.max_epochs", "2")
    assert finished.code == 2 and "which lacks its position in the run, optimizer state, schedule," in finished.err


@pytest.mark.parametrize(
    ("alter", "sentence"),
    [
        (lambda stored: stored.pop("loops"), "lacks its position in the run (as"),
        (lambda stored: stored.pop("callbacks"), "lacks its state of random numbers and callbacks (as"),
        (lambda stored: stored["callbacks"].pop("RandomState"), "lacks its state of random numbers and callbacks (as"),
        (lambda stored: stored.update(optimizer_states=[]), "has the state of 0 optimizers, but the model has 1; use"),
        (lambda stored: stored.update(loops=3), "its structure is not the one that fit writes"),
        (lambda stored: stored["loops"]["fit_loop"].update(state_dict=3), "can't be used ("),
        (lambda stored: stored["optimizer_states"][0].update(state={0: 5}, param_groups=[]), "can't be used ("),
        (
            lambda stored: stored["optimizer_states"][0]["param_groups"][0].update(lr="x"),
            "SGD's lr is 'x', not a value",
        ),
        (lambda stored: stored["lr_schedulers"][0].update(last_epoch=None), "WarmupCosine's last_epoch is None, not a"),
        (lambda stored: stored["callbacks"]["RandomState"].update(ranks=[{"torch": 3}]), "can't be used ("),
        (lambda stored: stored.update(Digits={"preprocessing": 1}), "trained with preprocessing 1"),
        (lambda stored: stored.update(Digits=7), "can't be used (TypeError"),
        (lambda stored: stored.update(state_dict=[1, 2]), "is not a training checkpoint; use one that `fit`"),
        (lambda stored: stored.update(state_dict={"linear.weight": "x"}), "is not a training checkpoint; use one that"),
        (
            lambda stored: stored.update(state_dict={2: torch.zeros(1)}),
            "is not a training checkpoint; use one that `fit`",
        ),
        (
            lambda stored: stored["Digits"].update(brightness="auto"),
            "is 'auto', not a number in [0, 1]; use another",
        ),
        (lambda stored: stored.update(global_step="x"), "(its global_step is 'x'); use another checkpoint"),
        (lambda stored: stored.pop("global_step"), "(its global_step is None); use another checkpoint"),
    ],
)
def test_a_damaged_state_ends_in_one_sentence(alter: Change, sentence: str, run: Path) -> None:
    change(run, alter)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    finished = command(run, "fit", "--ckpt_path", "logs/softmax/copy", "--trainer.max_epochs", "2")
    assert finished.code == 2 and sentence in finished.err and finished.err.count("\n") == 1, finished.err
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != "status.json"} == {
        file: content for file, content in before.items() if file.name != "status.json"
    }


def test_a_test_without_the_step_of_its_checkpoint_leaves_the_metrics(run: Path) -> None:
    before = (run / "metrics.csv").read_bytes()
    for alter in (lambda stored: stored.pop("global_step"), lambda stored: stored.update(global_step=-1)):
        change(run, alter)
        finished = command(run, "test", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"))
        assert finished.code == 2 and "its global_step is" in finished.err and finished.err.count("\n") == 1
    assert (run / "metrics.csv").read_bytes() == before


def test_a_flipped_bit_is_refused_by_every_command(run: Path) -> None:
    file = run / "checkpoints" / "last.ckpt"
    content = bytearray(file.read_bytes())
    weight = torch.load(file, weights_only=True)["state_dict"]["linear.weight"]
    content[content.index(weight.numpy().tobytes()) + 3] ^= 0x40
    file.write_bytes(content)
    for pipeline, arguments in (
        ("train", ["fit", "--ckpt_path", str(run), "--trainer.max_epochs", "2"]),
        ("train", ["test", "--ckpt_path", str(file)]),
        ("export", [str(file), "--format", "safetensors"]),
    ):
        finished = run_pipeline(pipeline, arguments, run.parents[2])
        assert finished.code == 2, finished.out
        assert "last.ckpt can't be read as a checkpoint: it is truncated, damaged or" in finished.err
