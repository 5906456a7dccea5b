"""The benchmark of adversarial training runs to the end on small inputs; how fast is not tested here."""

import re
from pathlib import Path

import pytest

from benchmarks import gan
from tests.benchmarks.test_benchmarks import assert_all_printed


def test_gan_gives_a_figure_for_every_variant_and_counts_iterations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparisons = gan.main(["--root", str(tmp_path), "--rounds", "1", "--steps", "2", "--batch_size", "16"])
    printed = capsys.readouterr().out
    assert "scikit-learn's digits" in printed
    for comparison in comparisons.values():
        assert_all_printed(comparison, {gan.BARE, gan.OURS, gan.PLAIN}, printed)
    counts = re.findall(r"global_step (\d+) after (\d+) iterations", printed)
    assert counts == [(str(gan.WARM_UP + steps + 1),) * 2 for steps in (2, 8)]


def test_gan_refuses_more_steps_than_an_epoch_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="An epoch has 2 batches of 600, too few for 61; use fewer --steps"):
        gan.main(["--root", str(tmp_path), "--batch_size", "600"])
