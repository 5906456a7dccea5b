"""The benchmark of fooling images and saliency runs to the end on a small run, and its counts are correct."""

from pathlib import Path

import pytest
import torch

from benchmarks import interpret
from tests.command_line import run_pipeline


@pytest.mark.slow
def test_it_fools_a_run_and_gives_a_rate_for_every_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = "--data Digits --data.flip false --data.crop_padding 0 --model.channels [8,16] --trainer.max_epochs 1"
    finished = run_pipeline(
        "train",
        f"fit --config convnet {settings} --trainer.precision 32 --trainer.callbacks null".split(),
        tmp_path,
    )
    assert finished.code == 0, finished.err
    (run,) = (tmp_path / "logs" / "convnet").iterdir()
    result, comparisons = interpret.main([str(run), "--pairs", "120", "--images", "8", "--rounds", "1"])
    printed = capsys.readouterr().out
    model, data = interpret.load(str(run), None)
    images = data.splits["test"][0][:120]
    with torch.no_grad():
        before = model(data.preprocessing(images)).argmax(1)
        after = model(data.preprocessing((255 * result.images).round().to(torch.uint8))).argmax(1)
    assert (result.steps >= 1).all()  # no target was the predicted class
    assert (after != before)[result.succeeded].all()
    assert f"fooled            {float(result.succeeded.float().mean()):.1%}" in printed
    assert set(comparisons) == {"ConvNet of the run", "ConvNet [8, 16], 1 conv"}
    for comparison in comparisons.values():
        assert comparison.ratio(interpret.BATCHED, interpret.ALONE).median > 0
