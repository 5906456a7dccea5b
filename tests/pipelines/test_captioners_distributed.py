"""A captioner on two processes (gloo): features stored once for both, the training of one, and each caption once.

In float64, since Adam magnifies what is near 0.
"""

from pathlib import Path

import pytest
import torch

from tests.command_line import run_pipeline
from tests.datamodules.captions.coco_dataset import write_coco
from tests.datamodules.captions.test_image_features import NETWORK
from tests.helpers import numbers, only_run, weights
from tests.pipelines.test_distributed import TWO, train

FIT = [
    "fit", "--config", "caption_lstm", "--data", "COCOCaptions", "--data.root", ".", "--data.backbone", NETWORK,
    "--data.min_count", "1", "--data.val_fraction", "0.25", "--trainer.max_epochs", "2", "--trainer.callbacks=null",
    "--trainer.precision", "64-true", "--model.width", "16", "--model.dropout", "0.0", "--optimizer.lr", "1e-3",
    "--trainer.log_every_n_steps", "1",
]  # fmt: skip
ONE = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.strategy", "auto"]


@pytest.mark.slow
def test_two_processes_train_and_count_as_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_coco(tmp_path / name, num_train=24)
    finished = run_pipeline("train", [*FIT, "--data.batch_size", "16", *ONE], tmp_path / "one")
    assert finished.code == 0, finished.err
    train([*FIT, "--data.batch_size", "8", *TWO], tmp_path / "two")
    runs = [only_run(tmp_path / name, "caption_lstm") for name in ("one", "two")]
    one, two = map(weights, runs)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-7, msg=name)
    expected, got = map(numbers, runs)
    assert [row["step"] for row in got] == [row["step"] for row in expected]
    for name in ("train/loss", "val/loss", "val/cider", "val/bleu4"):
        figures = [row[name] for row in expected if name in row]
        assert len(figures) >= 2 and [row[name] for row in got if name in row] == pytest.approx(figures, rel=1e-5), name

    arguments = ["test", "--ckpt_path", str(runs[1]), "--data.batch_size", "2", "--trainer.logger", "false"]
    printed = [train([*arguments, *devices], tmp_path / "two").splitlines()[1:] for devices in (TWO, ONE)]
    assert printed[0] == printed[1]
    assert any(line.split() == ["test/images", "5"] for line in printed[0])
