"""The speedrun and the GPU table run to the end on small inputs; how fast is not tested here."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, speedrun
from benchmarks.device import flops
from tests.command_line import PROJECT

TINY = ["--data", "Shapes", "--data.num_train", "400", "--data.num_test", "50", "--data.batch_size", "64"]
TINY += ["--model.widths", "[4,6,6]", "--trainer.max_epochs", "3", "--trainer.accelerator", "cpu"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    os.environ.pop("PL_GLOBAL_SEED", None)


def test_flops_of_a_matrix_product_forward_and_backward() -> None:
    weight, inputs = torch.randn(5, 7, requires_grad=True), torch.randn(3, 5)
    assert flops(lambda: (inputs @ weight).sum().backward()) == 2 * (2 * 3 * 5 * 7)  # inputs need no gradient


@pytest.mark.slow
def test_speedrun_times_trainings_and_a_bare_loop(capsys: pytest.CaptureFixture[str]) -> None:
    runs, comparison = speedrun.main([*TINY, "--seeds", "2", "--test", "--compare", "--rounds", "1", "--steps", "2"])
    printed = capsys.readouterr().out
    assert "test accuracy, views" in printed and "val accuracy" not in printed
    assert len(runs) == 2
    for run in runs:
        assert run.images == 3 * 5 * 64  # 360 images are five batches
        assert all(0 < seconds < 600 for seconds in (run.setup, run.training, run.evaluation))
        assert 0 <= run.plain <= 1 and 0 <= run.views <= 1
    assert comparison is not None and set(comparison.variants) == {speedrun.BARE, speedrun.OURS}
    assert all(math.isfinite(comparison.rate(name)) and comparison.rate(name) > 0 for name in comparison.variants)


def test_a_seed_is_trained_alike_whatever_was_trained_before() -> None:
    def accuracies(seeds: list[int]) -> list[tuple[float, float]]:
        with speedrun.speedrun(["--config", "fast_convnet", *TINY]) as race:
            runs = [race.run(seed, "val") for seed in seeds]
            weights.append(race.model.network.head.weight.detach().clone())
        return [(run.plain, run.views) for run in runs]

    weights: list[torch.Tensor] = []
    assert accuracies([0, 1])[1] == accuracies([1])[0]
    assert torch.equal(*weights)


def test_another_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        speedrun.main(["--config", "convnet"])
    assert "speedrun trains FastConvNet, but the configuration names ConvNet" in capsys.readouterr().err


def test_gpu_runs_its_rows_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["fast", "knn", "gan", "packs"]
    lines = gpu.main(["--cpu", "--root", str(tmp_path), "--seeds", "1", "--only", *rows])
    assert [name for name, _ in lines] == [
        *("matrix products", "fast recipe", "kNN", "GAN", "pack, two_layer", "pack, small convnet")
    ]
    assert not any("not measured" in figures for _, figures in lines), lines
    printed = capsys.readouterr().out
    assert all(f"{name:<28}{figures}" in printed for name, figures in lines)


@pytest.mark.slow
def test_gpu_needs_neither_wandb_nor_albumentations(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(wandb=None, albumentations=None); from benchmarks import gpu; "
        f"gpu.main(['--cpu', '--root', {str(tmp_path)!r}, '--seeds', '1', '--only', 'fast', 'gan'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "wandb is not installed: measuring without it." in done.stdout
    assert "fast recipe  " in done.stdout and "GAN  " in done.stdout and "not measured" not in done.stdout


def test_a_row_that_fails_leaves_the_others_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: gpu.Bench) -> None:
        raise ModuleNotFoundError("No module named 'nothing'")

    monkeypatch.setitem(gpu.ROWS, "simclr", broken)
    lines = dict(gpu.main(["--cpu", "--only", "simclr", "knn"]))
    assert lines["simclr"] == "not measured: ModuleNotFoundError: No module named 'nothing'"
    assert "100 queries among 500 images" in lines["kNN"]
    assert gpu.main(["--cpu", "--only", "knn", "--minutes", "-1"])[1][1] == "not measured: -1 minutes are over"


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        gpu.main([])
    assert capsys.readouterr().err.startswith("error: There is no GPU that torch can use; run this on a machine")
