"""Runs of a pack leave what they would leave alone: metrics at every epoch, checkpoints, configuration and status."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipelines.run.status import read_status
from tests.command_line import run_pipeline
from tests.helpers import numbers
from tests.pipelines.packs.packed import count_stacked_steps, run_folder, train_pack

# Two trials of each topic, and what both have in common.
TOPICS = {
    "svm": (
        "--config svm --data Digits --data.batch_size 64 --trainer.precision 64-true",
        "--model.reg 0.1 --model.margin 2 --optimizer.lr 1e-3",
        "--model.reg 0.01 --model.margin 1 --optimizer.lr 1e-2 --optimizer.momentum 0.5 --model.weight_scale 0.1",
    ),
    "softmax": (
        "--config softmax --data Digits --data.batch_size 64 --trainer.precision 64-true",
        "--model.reg 0 --optimizer.lr 1e-3 --optimizer.weight_decay 0.1",
        "--model.reg 0.01 --optimizer Adam --optimizer.lr 1e-2 --optimizer.betas [0.8,0.9]",
    ),
    "two_layer": (
        "--config two_layer --data Digits --model.hidden_size 20 --data.batch_size 64 --trainer.precision 64-true "
        "--trainer.gradient_clip_val 0.5",
        "--model.reg 0.1 --optimizer.lr 1e-2",
        "--model.reg 0 --optimizer.lr 1e-1 --model.weight_scale 0.3",
    ),
    "batch norm": (
        "--config fc_net --data Digits --model.hidden_sizes [20,20] --data.batch_size 64 --trainer.precision 64-true",
        "--model.dropout 0.5 --model.reg 0.1 --optimizer.lr 1e-3",
        "--model.dropout 0 --model.reg 0 --optimizer.lr 1e-2 --lr_scheduler.warmup 0.5",
    ),
    "layer norm": (
        "--config fc_net --data Digits --model.hidden_sizes [20,20] --model.normalization layer --data.batch_size 64 "
        "--trainer.precision 64-true --lr_scheduler StepLR --lr_scheduler.step_size 1",
        "--model.dropout 0.5 --lr_scheduler.gamma 0.5",
        "--model.dropout 0.1 --lr_scheduler.gamma 0.9",
    ),
    "convnet": (
        "--config convnet --data Digits --model.channels [4,8] --data.batch_size 128 --trainer.precision 64-true",
        "--model.dropout 0.5 --optimizer.lr 1e-3",
        "--model.dropout 0.2 --optimizer.lr 1e-2 --optimizer.weight_decay 0.1",
    ),
    "bf16": (
        "--config fc_net --data Digits --model.hidden_sizes [20] --model.normalization none --data.batch_size 128 "
        "--trainer.precision bf16-mixed",
        "--optimizer.lr 1e-3",
        "--optimizer.lr 1e-2",
    ),
}


def checkpoint(name: str, file: str = "last.ckpt") -> dict[str, Any]:
    stored: dict[str, Any] = torch.load(run_folder(name) / "checkpoints" / file, weights_only=True)
    return stored


def assert_equal(packed: Any, alone: Any, tolerance: float, path: str = "") -> None:
    """Compares two checkpoints, but for the names of the runs in them."""
    if isinstance(packed, dict):
        keys = [named_alone(key) for key in packed]
        assert keys == list(alone), path
        packed, alone = list(packed.values()), list(alone.values())
        for key, one, other in zip(keys, packed, alone, strict=True):
            assert_equal(one, other, tolerance, f"{path}/{key}")
    elif isinstance(packed, list | tuple):
        assert len(packed) == len(alone), path
        for index, (one, other) in enumerate(zip(packed, alone, strict=True)):
            assert_equal(one, other, tolerance, f"{path}/{index}")
    elif isinstance(packed, torch.Tensor):
        torch.testing.assert_close(packed, alone, rtol=tolerance, atol=tolerance, msg=lambda text: f"{path}: {text}")
    elif isinstance(packed, float):
        if tolerance > 1e-3 and "val/accuracy/" in path:
            tolerance = 0.07  # one of a class's images
        assert packed == pytest.approx(alone, rel=tolerance, abs=tolerance), path
    else:
        assert named_alone(packed) == alone, path


def named_alone(value: Any) -> Any:
    return value.replace("packed-", "alone-") if isinstance(value, str) else value


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("LIGHTNING_231N_RUN_ID", raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("topic", TOPICS)
def test_a_packed_run_is_the_run_that_it_would_be_alone(
    topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacked = count_stacked_steps(monkeypatch)
    common, *apart = TOPICS[topic]
    lines = [f"fit {common} --trainer.max_epochs 3 --trainer.log_every_n_steps 7 {line}" for line in apart]
    members, notes = train_pack(lines, ["packed-0", "packed-1"])
    assert [member.exit_code for member in members] == [0, 0], Path("packed-0.log").read_text()
    assert notes == []
    assert stacked == [2] * checkpoint("packed-0")["global_step"]
    # bfloat16 rounds to three digits, and sums in another order.
    figures, tolerance = (1e-5, 1e-9) if "64-true" in common else (2e-2, 2e-2)
    for index, line in enumerate(lines):
        alone, packed = f"alone-{index}", f"packed-{index}"
        finished = run_pipeline("train", line.split(), tmp_path, WANDB_RUN_ID=alone)
        assert finished.code == 0, finished.err
        for row, expected in zip(numbers(run_folder(packed)), numbers(run_folder(alone)), strict=True):
            assert_equal(row, expected, figures)
        for file in ("last.ckpt", "best.ckpt"):
            assert_equal(checkpoint(packed, file), checkpoint(alone, file), tolerance)
        config = yaml.safe_load((run_folder(packed) / "config.yaml").read_text().replace(packed, alone))
        assert config == yaml.safe_load((run_folder(alone) / "config.yaml").read_text())
        assert read_status(run_folder(packed)).state == "finished"
        pictures = [sorted(p.name for p in run_folder(name).rglob("*.png")) for name in (packed, alone)]
        assert pictures[0] == pictures[1]
        assert pictures[0] or "callbacks" in common
