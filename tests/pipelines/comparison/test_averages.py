"""Averages over runs with equal settings, in the terminal and by `--group-by`."""

import math
from pathlib import Path

import numpy as np
import pytest

from pipelines.compare import main
from pipelines.comparison.averages import averages, is_seed, keys_to_group_by, mean_and_std, mean_figure
from tests.pipelines.comparison.run_folders import compared, ranked, refused, write_run


def write_seeds(topic: Path) -> Path:
    """Writes three seeds of three learning rates; one run has logged nothing but NaN."""
    seeds: dict[float, list[float | None]] = {0.1: [0.5, 0.7, 0.6], 0.2: [0.9, 0.8, 0.95], 0.3: [0.4, None, 0.2]}
    for lr, values in seeds.items():
        for seed, value in enumerate(values):
            write_run(topic / f"lr{lr}-{seed}", ["nan"] * 2 if value is None else [0.1, value], lr=lr, seed=seed)
    return topic


@pytest.mark.parametrize("count", [1, 2, 7])
def test_mean_and_sample_deviation_are_numpys(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count).tolist()
    found = mean_and_std([*values, math.nan, math.inf])
    assert found is not None and found[0] == pytest.approx(np.mean(values))
    assert found[1] == (pytest.approx(np.std(values, ddof=1)) if count > 1 else None)
    assert mean_and_std([math.nan]) is None and mean_figure([]) == "–"
    assert mean_figure([0.5]) == "0.5000" and mean_figure([1.0, 2.0]) == "1.5000 ± 0.7071"


def test_seeds_are_told_from_settings() -> None:
    assert is_seed("seed_everything") and is_seed("data.split_seed") and is_seed("model.seed")
    assert not is_seed("model.seeded") and not is_seed("seed.lr")


def test_the_best_mean_comes_first(tmp_path: Path) -> None:
    group = ranked(write_seeds(tmp_path / "svm"))
    found = averages(group, ["optimizer.lr"])
    assert [(average.values, len(average.runs), sorted(average.best)) for average in found] == [
        ((0.2,), 3, [0.8, 0.9, 0.95]), ((0.1,), 3, [0.5, 0.6, 0.7]), ((0.3,), 3, [0.2, 0.4]),
    ]  # fmt: skip
    assert [run.run_id for run in found[2].runs] == ["lr0.3-0", "lr0.3-2", "lr0.3-1"]  # the one without values last
    ((everything, *_),) = [averages(group, [])]
    assert len(everything.runs) == 9


def test_settings_are_found_by_name_key_and_all_at_once(tmp_path: Path) -> None:
    write_seeds(tmp_path / "svm")
    write_run(tmp_path / "knn" / "a")
    comparison = compared(tmp_path)
    assert [group.topic for group in comparison.groups] == ["knn", "svm"]
    assert keys_to_group_by(comparison, "lr") == [None, ("optimizer.lr",)]  # of knn it is the same in all runs
    assert keys_to_group_by(comparison, "batch_size") == [("data.batch_size",)] * 2  # the same everywhere
    assert keys_to_group_by(comparison, "optimizer.lr, seed_everything")[1] == ("optimizer.lr", "seed_everything")
    assert keys_to_group_by(comparison, "settings") == [(), ("optimizer.lr",)]


def test_the_terminal_prints_mean_and_deviation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeds(tmp_path / "logs" / "svm")
    monkeypatch.chdir(tmp_path)
    main(["svm", "--group-by", "lr"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if "±" in line]
    assert rows[0] == ["lr", "runs", "mean", "±", "std", "lowest", "highest"]
    assert rows[1] == ["1", "0.2", "3", "0.8833", "±", "0.0764", "0.8000", "0.9500"]
    assert rows[3] == ["3", "0.3", "3", "0.3000", "±", "0.1414", "0.2000", "0.4000"]
    assert "lr0.1-0" not in "\n".join(lines)
    assert '"groupBy":["optimizer.lr"]' in (tmp_path / "comparison.html").read_text()


def test_an_unknown_setting_is_refused_before_the_page_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeds(tmp_path / "logs" / "svm")
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "svm", "--group-by", "optimizer.lrr")
    assert said == "error: --group-by is 'optimizer.lrr', but no run has such a setting; did you mean optimizer.lr?\n"
    said = refused(capsys, "svm", "--group-by", "zzz")
    assert said.endswith("no run has such a setting; give one of settings, lr, seed_everything.\n")
    assert "--group-by is '', but no run has such a setting" in refused(capsys, "svm", "--group-by", "")
    assert not (tmp_path / "comparison.html").exists()
