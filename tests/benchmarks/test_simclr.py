"""The benchmark of SimCLR runs to the end on small inputs; how fast is not tested here."""

import math
from pathlib import Path

import pytest

from benchmarks import simclr


def test_it_gives_a_figure_for_every_variant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simclr, "_PASSES", 1)
    options = ["--root", str(tmp_path), "--images", "64", "--batch_size", "32", "--rounds", "1", "--threads", "1"]
    comparisons = simclr.main(options)
    printed = capsys.readouterr().out
    assert "drawn Shapes images" in printed
    assert set(comparisons["views"].variants) == {"torchvision, 0 workers", "torchvision, 2 workers", "ours"}
    assert "ours" in comparisons["NT-Xent"].variants
    for comparison in comparisons.values():
        for name in comparison.variants:
            assert any(line.startswith(name) for line in printed.splitlines())
            assert math.isfinite(comparison.rate(name)) and comparison.rate(name) > 0
