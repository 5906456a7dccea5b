"""The table of `benchmarks.checks`: seeds that pass, failures below it, and topics without their data."""

from pathlib import Path

import pytest
import torch

from benchmarks import checks
from common.errors import UserError


def test_the_table_counts_the_seeds_that_pass(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert checks.main(["softmax", "svm", "--seeds", "2", "--data", "Digits"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:4]] == [["| `softmax`", "2 of 2"], ["| `svm`", "2 of 2"]]
    assert torch.get_num_threads() == threads


def test_failed_checks_are_printed_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert not checks.main(["softmax", "--seeds", "1", "--data", "Digits", "--model.weight_scale=1"])
    printed = capsys.readouterr().out
    assert "| `softmax` | 0 of 1 |" in printed
    assert "\nsoftmax, seed 0: initial loss  FAIL  " in printed


def test_a_topic_without_its_data_is_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.main(["coco_lstm", "--seeds", "1", "--data.root", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| `coco_lstm` | not run: " in printed and "get COCO with " in printed


def test_there_is_at_least_one_seed() -> None:
    with pytest.raises(UserError, match="seeds is 0; it must be at least 1"):
        checks.main(["softmax", "--seeds", "0"])
