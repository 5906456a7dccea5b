"""The benchmarks run to the end on small inputs and print a figure for every variant; how fast is not tested here."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import captioning, features, input_pipeline, knn, networks, startup, sweep_overhead, trainer_overhead
from benchmarks.timing import Comparison, Rate, Summary, Variant
from tests.datamodules.files.official_files import write_cifar10


def assert_all_printed(comparison: Comparison, names: set[str], printed: str) -> None:
    assert set(comparison.variants) == names
    for name in names:
        assert any(line.startswith(name) for line in printed.splitlines())
        figures = [comparison.rate(name)]
        figures += [getattr(rate, clock) for rate in comparison.rates[name] for clock in ("cpu", "wall")]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures), (name, figures)


def test_input_pipeline_gives_a_figure_for_every_variant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_pipeline, "_SHORTEST", 0.0)
    threads = torch.get_num_threads()
    comparison = input_pipeline.main(
        ["--root", str(tmp_path), "--images", "1100", "--rounds", "1", "--batch_size", "50"]
    )
    printed = capsys.readouterr().out
    assert "drawn Shapes images" in printed
    names = {
        "torchvision, 0 workers",
        "torchvision, 2 workers",
        "torchvision, whole batches",
        "albumentations, 0 workers",
        "ours with albumentations",
        "ours",
        "ours, batches of 500",
        "ours without augmentation",
    }
    assert_all_printed(comparison, names, printed)
    assert comparison.ratio("ours", "ours") == Summary(1.0, 1.0, 1.0)
    assert torch.get_num_threads() == threads


def test_trainer_overhead_gives_a_figure_for_every_variant_of_both_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--root", str(tmp_path), "--rounds", "1", "--steps", "5", "--convnet_steps", "2", "--batch_size", "8"]
    options += ["--epochs", "1"]
    comparisons = trainer_overhead.main(options)
    printed = capsys.readouterr().out
    assert set(comparisons) == {"linear", "convnet"}
    names = {"bare loop", "Lightning as we run it", "Lightning alone"}
    assert_all_printed(comparisons["linear"], {*names, "chunks of 50", "whole run", "with panels"}, printed)
    assert_all_printed(comparisons["convnet"], names, printed)
    assert "with panels of the whole run: " in printed


def test_trainer_overhead_refuses_more_steps_than_an_epoch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(trainer_overhead.Shapes):
        def __init__(self, **settings: object) -> None:
            super().__init__(**{**settings, "num_train": 40})  # type: ignore[arg-type]

    monkeypatch.setattr(trainer_overhead, "Shapes", Short)
    with pytest.raises(ValueError, match="An epoch has 5 batches of 8, too few for 20 steps"):
        trainer_overhead.training_data("nowhere", 8, 20)


def test_ratio_is_the_median_of_the_rounds_and_uses_wall_time_beside_workers() -> None:
    rates = {"a": [Rate(2, 3), Rate(4, 8), Rate(9, 9)], "b": [Rate(1, 3), Rate(1, 2), Rate(1, 1)]}
    alone = Comparison({name: Variant(partial(next, iter(values))) for name, values in rates.items()}, rounds=3)
    assert alone.ratio("a", "b") == Summary(4, 2, 9)
    assert alone.rate("a") == 4
    alone.variants["b"] = Variant(lambda: Rate(1, 1), by_wall=True)
    assert alone.ratio("a", "b") == Summary(4, 1, 9)
    assert alone.rate("b") == 2
    with pytest.raises(ValueError, match="rounds is 0; it must be at least 1"):
        Comparison({}, rounds=0)


def test_sweep_overhead_gives_a_figure_for_each_method(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_overhead, "_FINISHED", 3)
    seconds = sweep_overhead.main(["--rounds", "1", "--trials", "2"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(seconds) == ["random", "bayes"]
    assert all(len(measured) == 1 and math.isfinite(measured[0]) for measured in seconds.values())


@pytest.mark.slow
def test_startup_reaches_the_first_step_with_and_without_wandb(capsys: pytest.CaptureFixture[str]) -> None:
    ratios = startup.main(["--rounds", "1"])
    assert list(ratios) == ["disabled", "offline"] and all(0 < values[0] < math.inf for values in ratios.values())
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_knn_gives_a_figure_for_every_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    sizes = ["--memory", "400", "--queries", "30", "--k", "20", "--subset", "600", "--rounds", "1"]
    comparisons = knn.main(["--root", str(tmp_path), *sizes])
    printed = capsys.readouterr().out
    assert "random bytes" in printed
    assert_all_printed(comparisons["search"], {knn.UINT8, knn.FLOATS, knn.MATMUL, knn.SCIKIT, knn.FAISS}, printed)
    assert {*comparisons["cross-validation"].variants} == {knn.UINT8, knn.SCIKIT}
    assert torch.get_num_threads() == threads


def test_features_gives_a_figure_for_every_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = features.main(["--root", str(tmp_path), "--images", "20", "--rounds", "1"])
    names = {"scikit-image loop", "hog", "course's loop", "hue histogram"}
    assert_all_printed(comparison, names, capsys.readouterr().out)


@pytest.mark.slow
def test_networks_gives_a_figure_for_every_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cifar10(tmp_path, num_train=12 * networks.BATCH_SIZE * 10 // 9)  # 12 steps after a tenth is held out
    comparisons = networks.main(["--root", str(tmp_path), "--models", "small", "--steps", "1", "--rounds", "1"])
    names = {networks.BARE, networks.KEPT, networks.OURS}
    assert_all_printed(comparisons["small"], names, capsys.readouterr().out)


def test_networks_are_those_of_the_topics_configurations(tmp_path: Path) -> None:
    config = tmp_path / "narrow.yaml"
    config.write_text("model: {class_path: modules.ConvNet, init_args: {channels: [4, 6], convs_per_stage: 1}}")
    convolutions = [part for part in networks.of_topic(str(config)).modules() if isinstance(part, torch.nn.Conv2d)]
    assert [(part.in_channels, part.out_channels) for part in convolutions] == [(3, 4), (4, 6)]
    for topic in ("convnet", "resnet"):
        assert networks.MODELS[topic]()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_captioning_gives_a_figure_for_every_variant(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, small in {"WIDTH": 16, "HIDDEN": 16, "LAYERS": 1, "WORDS": 50, "GRID": (4, 8), "BATCH_SIZE": 4}.items():
        monkeypatch.setattr(captioning, name, small)
    monkeypatch.setattr(captioning.RandomCaptions, "input_shape", (4, 8))
    comparisons = captioning.main(["--rounds", "1", "--steps", "2", "--images", "2", "--root", "nowhere"])
    printed = capsys.readouterr().out
    assert_all_printed(comparisons["training"], {"bare loop", "bare loop, our batches", "this project"}, printed)
    assert_all_printed(comparisons["search"], {captioning.CACHED, captioning.UNCACHED}, printed)
