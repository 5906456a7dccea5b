"""The plot over fractions of the labels: which trainings it runs, its table and picture, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import label_fractions
from common.errors import UserError


def test_six_trainings_differ_in_labels_and_checkpoint_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    def pretend(arguments: list[str]) -> float:
        ran.append(list(arguments))
        return 0.9 if "--model.checkpoint" in arguments else 0.1 * len(ran)

    monkeypatch.setattr(label_fractions, "accuracy", pretend)
    checkpoint, out = tmp_path / "last.ckpt", tmp_path / "labels.png"
    checkpoint.touch()
    settings = ["--data", "Digits", "--data.val_fraction", "0.1"]
    label_fractions.main([str(checkpoint), "--steps", "30", "--out", str(out), *settings])
    assert [arguments[arguments.index("--data.subset") + 1] for arguments in ran] == [
        number for number in ("13", "129", "1293") for _ in range(2)
    ]
    assert ["--model.checkpoint" in arguments for arguments in ran] == [True, False] * 3
    for pretrained, plain in zip(ran[::2], ran[1::2], strict=True):
        assert pretrained == [*plain, "--model.checkpoint", str(checkpoint)]
        assert plain[:2] == ["--config", "finetune"] and plain[plain.index("--trainer.max_steps") + 1] == "30"
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:5] == [
        "| 13 (1%) | 90.00% | 20.00% |", "| 129 (10%) | 90.00% | 40.00% |", "| 1,293 (100%) | 90.00% | 60.00% |",
    ]  # fmt: skip
    picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
    for color in ((31, 119, 180), (255, 127, 14)):
        assert (np.abs(picture - color) < 30).all(2).sum() > 100


@pytest.mark.slow
def test_a_run_is_read_and_a_failed_one_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    small = ["--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.callbacks", "null"]
    assert 0.1 < label_fractions.accuracy(small) <= 1
    with pytest.raises(UserError, match=r"A training failed: .*batch_size is 0; it must be at least 1"):
        label_fractions.accuracy([*small, "--data.batch_size", "0"])


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no nothing; give a run or checkpoint of simclr"):
        label_fractions.main(["nothing"])
    with pytest.raises(UserError, match="--steps is 2; it must be at least 3"):
        label_fractions.main([str(tmp_path), "--steps", "2"])
