"""What happens to single runs of a pack: mistakes, stops, different models, models that can't be stacked, resuming."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from pipelines.packs import pack as packs
from pipelines.run.status import read_status
from pipelines.tracking.wandb_mode import wandb_mode
from tests.command_line import run_pipeline
from tests.helpers import figures, numbers, weights
from tests.pipelines.packs.packed import count_stacked_steps, run_folder, start_pack, train_pack

FIT = "fit --config softmax --data Digits --data.batch_size 64 --trainer.max_epochs 3 --trainer.callbacks []"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("LIGHTNING_231N_RUN_ID", raising=False)


def same_figures(first: str, second: str) -> None:
    for row, expected in zip(numbers(run_folder(first)), numbers(run_folder(second)), strict=True):
        assert row == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_mistake_in_one_trial_fails_it_alone_with_its_sentence() -> None:
    lines = [f"{FIT} --model.reg {reg}" for reg in ("0.1", "-1", "0.01")]
    members, _ = train_pack(lines, ["a", "b", "c"])
    assert [member.exit_code for member in members] == [0, 2, 0]
    assert Path("b.log").read_text().strip() == "error: reg is -1.0; it must be ≥ 0."
    assert not list(Path("logs").glob("*/b"))
    assert len(figures(run_folder("c"), "val/accuracy")) == 3


def test_a_loss_that_is_not_finite_stays_with_its_trial(tmp_path: Path) -> None:
    lines = [f"{FIT} --optimizer.lr {lr}" for lr in ("1e-2", "1e30")]
    train_pack(lines, ["a", "b"])
    assert run_pipeline("train", lines[0].split(), tmp_path, WANDB_RUN_ID="alone").code == 0
    same_figures("a", "alone")
    assert not all(map(torch.isfinite, map(torch.sum, weights(run_folder("b")).values())))


def test_a_stopped_trial_keeps_its_last_step_and_the_others_go_on(tmp_path: Path) -> None:
    lines = [f"{FIT} --optimizer.lr {lr}" for lr in ("1e-3", "1e-2", "1e-1")]
    pack, members, _ = start_pack(lines, ["a", "b", "c"])

    def stop_at_step_30() -> None:
        loop = members[1].loop
        if loop is not None and loop.global_step == 30:
            members[1].stop(signal.SIGTERM)

    pack._poll = stop_at_step_30
    pack.run()
    assert [member.exit_code for member in members] == [0, -signal.SIGTERM, 0]
    status = read_status(run_folder("b"))
    assert (status.state, status.reason) == ("stopped", "SIGTERM")
    assert run_pipeline("train", lines[2].split(), tmp_path, WANDB_RUN_ID="alone").code == 0
    same_figures("c", "alone")
    # It goes on alone, to the weights that it would have had.
    assert run_pipeline("train", f"fit --ckpt_path {run_folder('b')}".split(), tmp_path).code == 0
    assert run_pipeline("train", lines[1].split(), tmp_path, WANDB_RUN_ID="whole").code == 0
    same_figures("b", "whole")


@pytest.mark.parametrize("stopped", [0, 2])
def test_a_stopped_trial_ends_before_the_epoch_of_the_others_does(stopped: int, tmp_path: Path) -> None:
    lines = [f"{FIT} --optimizer.lr {lr}" for lr in ("1e-3", "1e-2", "1e-1")]
    pack, members, _ = start_pack(lines, ["a", "b", "c"])
    steps_of_others: list[int] = []

    def stop_at_step_25() -> None:
        if members[stopped].loop is not None and members[stopped].loop.global_step == 25:
            members[stopped].stop(signal.SIGTERM)

    pack._poll = stop_at_step_25
    pack._ended = lambda member: steps_of_others.append(0 if members[1].loop is None else members[1].loop.global_step)
    pack.run()
    assert members[stopped].exit_code == -signal.SIGTERM
    assert steps_of_others[0] in (25, 26)  # of 20 an epoch
    assert run_pipeline("train", lines[1].split(), tmp_path, WANDB_RUN_ID="alone").code == 0
    same_figures("b", "alone")  # although the first batches came from the loader of the stopped one


def test_a_trial_that_trains_by_itself_can_be_stopped_within_its_epoch() -> None:
    Path("slow.py").write_text(
        "import time\n\nfrom lightning.pytorch import Callback\n\n\n"
        "class Slow(Callback):\n"
        "    def on_train_batch_end(self, *_):\n"
        "        time.sleep(0.1)\n"
    )
    lines = [
        f"{FIT} --trainer.accumulate_grad_batches 2 --trainer.callbacks slow.Slow --optimizer.lr {lr}"
        for lr in ("1e-3", "1e-2")
    ]
    pack, members, _ = start_pack(lines, ["a", "b"])

    def stop_all() -> None:
        for member in members:
            if member.loop is not None and member.loop.global_step >= 2:
                member.stop(signal.SIGTERM)

    pack._poll = stop_all
    pack.run()
    assert [member.exit_code for member in members] == [-signal.SIGTERM] * 2
    for name in "ab":
        stored = torch.load(run_folder(name) / "checkpoints" / "last.ckpt", weights_only=True)
        assert stored["global_step"] < 10  # that of the first epoch


@pytest.mark.slow
def test_stopped_runs_go_on_together_from_different_steps(tmp_path: Path) -> None:
    lines = [f"{FIT} --optimizer.lr {lr} --optimizer.momentum 0.5" for lr in ("1e-3", "1e-2", "1e-1")]
    pack, members, _ = start_pack(lines, ["a", "b", "c"])

    def stop_them() -> None:
        for member, step in zip(members, (7, 30, 30), strict=True):
            if member.loop is not None and member.loop.global_step == step:
                member.stop(signal.SIGTERM)

    pack._poll = stop_them
    pack.run()
    assert [member.exit_code for member in members] == [-signal.SIGTERM] * 3
    resumed, _ = train_pack([f"fit --ckpt_path {run_folder(name)}" for name in "abc"], ["", "", ""])
    assert [member.exit_code for member in resumed] == [0, 0, 0]
    for name, line in zip("abc", lines, strict=True):
        assert run_pipeline("train", line.split(), tmp_path, WANDB_RUN_ID=f"whole-{name}").code == 0
        same_figures(name, f"whole-{name}")
        for key, value in weights(run_folder(f"whole-{name}")).items():
            torch.testing.assert_close(weights(run_folder(name))[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_different_models_data_and_lengths_in_one_pack_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = FIT.replace("softmax", "two_layer")
    lines = [
        f"{fit} --model.hidden_size 8 --optimizer.lr 1e-2",
        f"{fit} --model.hidden_size 8 --optimizer.lr 1e-1 --trainer.max_epochs 2",
        f"{fit} --model.hidden_size 9 --optimizer.lr 1e-2",
        f"{fit} --model.hidden_size 8 --data.batch_size 32",
    ]
    stacked = count_stacked_steps(monkeypatch)
    members, notes = train_pack(lines, ["packed-0", "packed-1", "packed-2", "packed-3"])
    assert set(stacked) == {2}  # the first two, until the second ends
    assert [member.exit_code for member in members] == [0] * 4 and notes == []
    for index, line in enumerate(lines):
        assert run_pipeline("train", line.split(), tmp_path, WANDB_RUN_ID=f"alone-{index}").code == 0
        same_figures(f"packed-{index}", f"alone-{index}")


def test_a_model_that_can_not_be_stacked_is_trained_in_turns_and_that_is_said(tmp_path: Path) -> None:
    Path("branching.py").write_text(
        "from modules import SoftmaxRegression\n\n\n"
        "class Branching(SoftmaxRegression):\n"
        "    def data_loss(self, logits, labels):\n"
        "        loss = super().data_loss(logits, labels)\n"
        "        return 2 * loss if loss > 1 else loss\n"
    )
    lines = [f"{FIT} --model branching.Branching --optimizer.lr {lr}" for lr in ("1e-3", "1e-2")]
    members, notes = train_pack(lines, ["packed-0", "packed-1"])
    assert [member.exit_code for member in members] == [0, 0], Path("packed-0.log").read_text()
    (note,) = notes
    assert note.startswith("trials are trained one after the other: Branching can't be stacked (")
    for index, line in enumerate(lines):
        assert run_pipeline("train", line.split(), tmp_path, WANDB_RUN_ID=f"alone-{index}").code == 0
        assert numbers(run_folder(f"packed-{index}")) == numbers(run_folder(f"alone-{index}"))


OWN = """
import os
import random

import numpy as np
import torch
from lightning.pytorch import Callback

from modules import SoftmaxRegression


class Noise(Callback):
    "Draws from the random number generators of the process, and reads its environment and prints."

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        with torch.no_grad():
            pl_module.linear.weight.add_(1e-3 * (np.random.rand() + random.random()))
        print("step of", os.environ["WANDB_RUN_ID"][-1])


def decay(trainer, pl_module, *_):
    with torch.no_grad():
        pl_module.linear.weight.mul_(0.9)


class ByIndex(SoftmaxRegression):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * (2.0 if batch_idx % 2 else 0.5)


class Skipping(SoftmaxRegression):
    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 15 else None


class Derived(SoftmaxRegression):
    def __init__(self, *arguments, reg: float = 0.1, **settings):
        super().__init__(*arguments, reg=reg, **settings)
        self.twice = 2 * reg

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) + self.twice * self.linear.weight.abs().sum()


class Unused(SoftmaxRegression):
    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.extra = torch.nn.Parameter(torch.ones(3))
"""
LAMBDA = "--trainer.callbacks LambdaCallback --trainer.callbacks.on_train_batch_end own.decay"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("--trainer.callbacks own.Noise", None),
        (LAMBDA, None),
        ("--model own.ByIndex --trainer.callbacks []", None),
        ("--model own.Skipping --trainer.callbacks []", "Skipping has an on_train_batch_start of its own"),
        (
            "--model own.Derived --trainer.callbacks []",
            "Derived can't be stacked (its loss depends on more than weights,",
        ),
        ("--model own.Unused --trainer.callbacks []", "Unused can't be stacked (its loss does not depend on extra)"),
    ],
)
def test_modules_and_callbacks_of_the_user_do_what_they_do_alone(
    setting: str, reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own.py").write_text(OWN)
    stacked = count_stacked_steps(monkeypatch)
    fit = FIT.replace(" --trainer.callbacks []", "") + f" {setting} --optimizer.weight_decay 0.1"
    lines = [f"{fit} --optimizer.lr {lr} --model.reg {reg}" for lr, reg in (("1e-3", "0.1"), ("1e-2", "0.01"))]
    members, notes = train_pack(lines, ["packed-0", "packed-1"])
    assert [member.exit_code for member in members] == [0, 0], Path("packed-0.log").read_text()
    if reason is None:
        assert notes == [] and set(stacked) == {2}
    else:
        assert notes[0].startswith(f"trials are trained one after the other: {reason}")
    for index, line in enumerate(lines):
        alone = run_pipeline("train", line.split(), tmp_path, WANDB_RUN_ID=f"alone-{index}")
        assert alone.code == 0, alone.err
        assert len(numbers(run_folder(f"packed-{index}"))) == len(numbers(run_folder(f"alone-{index}")))
        same_figures(f"packed-{index}", f"alone-{index}")
        for key, value in weights(run_folder(f"alone-{index}")).items():
            torch.testing.assert_close(weights(run_folder(f"packed-{index}"))[key], value, rtol=1e-5, atol=1e-5)
        printed = f"step of {index}"
        assert Path(f"packed-{index}.log").read_text().count(printed) == alone.out.count(printed)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("--trainer.accumulate_grad_batches 2", "it accumulates gradients"),
        ("--trainer.callbacks Histograms", "a callback reads the outputs of its layers in a step"),
        ("--trainer.val_check_interval 0.5", "it validates within an epoch"),
        ("--optimizer LBFGS", "its optimizer computes the loss several times in a step"),
    ],
)
def test_settings_that_need_a_step_of_their_own_are_trained_in_turns(setting: str, reason: str) -> None:
    lines = [f"{FIT} --trainer.max_epochs 1 {setting} --model.reg {reg}" for reg in ("0.1", "0.2")]
    members, notes = train_pack(lines, ["a", "b"])
    assert [member.exit_code for member in members] == [0, 0], Path("a.log").read_text()
    assert notes == [f"trials are trained one after the other: {reason}"]


@pytest.mark.parametrize(
    "setting",
    [
        "--trainer.logger CSVLogger --trainer.logger.save_dir own",
        "--trainer.fast_dev_run true",
        "--trainer.profiler simple",
        "--trainer.detect_anomaly true",
        "--trainer.strategy ddp",
        "--trainer.max_time 00:01:00:00",
        "--trainer.callbacks lightning.pytorch.callbacks.Timer --trainer.callbacks.duration 00:01:00:00",
    ],
)
def test_runs_that_need_a_process_of_their_own_are_handed_back(setting: str) -> None:
    fit = FIT.replace(" --trainer.callbacks []", "") if "callbacks" in setting else FIT
    members, _ = train_pack([f"{fit} {setting}", FIT], ["a", "b"])
    assert members[0].alone is not None and members[1].exit_code == 0
    assert not list(Path("logs").glob("*/a"))


def test_each_run_has_its_own_wandb_run() -> None:
    lines = [f"{FIT} --trainer.max_epochs 1 --optimizer.lr {lr}" for lr in ("1e-3", "1e-2")]
    members, _ = train_pack(lines, ["a", "b"], WANDB_MODE="offline")
    assert [member.exit_code for member in members] == [0, 0], Path("a.log").read_text()
    for name in "ab":
        (file,) = (run_folder(name) / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb")
        deadline = time.monotonic() + 30
        while file.stat().st_size < 1000 and time.monotonic() < deadline:  # W&B's own process writes it
            time.sleep(0.05)
        assert file.stat().st_size > 1000
    assert wandb_mode() == "disabled"  # the environment of this process is what it was


def test_each_run_sends_its_table_to_its_own_wandb_run() -> None:
    fit = FIT.replace("callbacks []", "callbacks PredictionTable")
    lines = [f"{fit} --trainer.max_epochs 1 --optimizer.lr {lr}" for lr in ("1e-3", "1e-2")]
    members, notes = train_pack(lines, ["a", "b"], WANDB_MODE="offline")
    assert [member.exit_code for member in members] == [0, 0], Path("a.log").read_text()
    assert not notes
    losses = []
    for name in "ab":
        (files,) = (run_folder(name) / "wandb").glob(f"offline-run-*-{name}")
        (table,) = files.glob("files/media/table/tables/predictions/val_*.table.json")
        losses.append([row[-1] for row in json.loads(table.read_text())["data"]])
        assert list((files / "data" / "artifacts" / "staging").iterdir())
    assert min(map(len, losses)) > 32 and losses[0] != losses[1]
    assert "WANDB_DATA_DIR" not in os.environ


def test_runs_that_do_not_fit_into_memory_follow_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    weights_of_one = 650 * 4
    monkeypatch.setattr(packs, "free_memory", lambda device: 2 * 5 * weights_of_one * 2 + 1)
    lines = [f"{FIT} --trainer.max_epochs 1 --optimizer.lr {lr}" for lr in ("1e-3", "1e-2", "1e-1")]
    pack, members, notes = start_pack(lines, ["a", "b", "c"])
    most = 0

    def count_running() -> None:
        nonlocal most
        most = max(most, sum(member.loop is not None for member in members))

    pack._poll = count_running
    pack.run()
    assert [member.exit_code for member in members] == [0, 0, 0]
    assert most == 2
    assert notes == ["memory is enough for 2 trials of a pack at a time; the others follow"]
