"""Groups of runs by topic and data set, each with a metric and settings of its own."""

from pathlib import Path

import pytest

from pipelines.compare import main
from pipelines.comparison.differences import set_by_somebody, varying
from tests.pipelines.comparison.run_folders import compared, order, ranked, refused, write_run


def write_topics(logs: Path) -> Path:
    """Writes runs of four topics on three data sets, with four headline metrics."""
    write_run(logs / "gan" / "g0", [30.0, 20.0], monitor="val/fid", mode="min", data="MNIST", model="GAN")
    write_run(logs / "gan" / "g1", [25.0, 22.0], monitor="val/fid", mode="min", data="MNIST", model="GAN", lr=0.3)
    write_run(logs / "knn" / "k0", [0.4], model="KNearestNeighbors")
    write_run(logs / "simclr" / "s0", [0.6], monitor="val/knn_accuracy", data="Shapes", model="SimCLR")
    write_run(logs / "svm" / "v0", [0.7], model="LinearSVM")
    write_run(logs / "svm" / "v1", [0.9], model="LinearSVM", reg=0.5)
    write_run(logs / "svm" / "v2", [0.2], model="LinearSVM", data="Shapes")
    return logs


def test_each_topic_on_each_data_set_is_ranked_by_its_own_metric(tmp_path: Path) -> None:
    groups = compared(write_topics(tmp_path / "logs")).groups
    assert [(group.title, order(group)) for group in groups] == [
        ("gan on MNIST", ["g0", "g1"]), ("knn on Digits", ["k0"]), ("svm on Digits", ["v1", "v0"]),
        ("simclr on Shapes", ["s0"]), ("svm on Shapes", ["v2"]),
    ]  # fmt: skip
    metrics = [group.ranking_metric for group in groups]
    assert [metric and (metric.name, metric.arrow) for metric in metrics] == [
        ("val/fid", "↓"), ("val/accuracy", "↑"), ("val/accuracy", "↑"), ("val/knn_accuracy", "↑"),
        ("val/accuracy", "↑"),
    ]  # fmt: skip
    assert [group.settings for group in groups] == [("optimizer.lr",), (), ("model.reg",), (), ()]


def test_a_metric_to_sort_by_counts_where_a_group_has_it(tmp_path: Path) -> None:
    groups = compared(write_topics(tmp_path / "logs"), sort="val/fid").groups
    assert [group.ranking_metric.name for group in groups if group.ranking_metric][:2] == ["val/fid", "val/accuracy"]
    metrics = {group.ranking_metric for group in compared(tmp_path / "logs", sort="train/loss").groups}
    assert [(metric.name, metric.goal) for metric in metrics if metric] == [("train/loss", "minimize")]


def test_a_run_without_configuration_belongs_to_the_others_of_its_topic(tmp_path: Path) -> None:
    for name, data in (("a", "Digits"), ("b", "Shapes"), ("c", "Shapes"), ("broken", "Digits")):
        write_run(tmp_path / "svm" / name, [0.5], data=data)
    (tmp_path / "svm" / "broken" / "config.yaml").unlink()
    groups = compared(tmp_path / "svm").groups
    assert {group.title: order(group) for group in groups} == {
        "svm on Digits": ["a"],
        "svm on Shapes": ["b", "broken", "c"],
    }
    (tmp_path / "svm" / "a" / "config.yaml").unlink()
    (tmp_path / "knn").mkdir()
    (tmp_path / "svm" / "a").rename(tmp_path / "knn" / "a")
    assert compared(tmp_path / "knn").groups[0].title == "knn"  # nothing tells the data set


def test_settings_that_differ_although_no_command_sets_them_are_named_apart(tmp_path: Path) -> None:
    """As after a change of a topic's defaults: `lr` was chosen, `reg` and the sixteenth epoch were not."""
    for name, lr, reg in (("a", 0.1, 1), ("b", 0.2, 2)):
        write_run(tmp_path / "svm" / name, [0.5], lr=lr, reg=reg, command=f"fit --config svm --optimizer.lr={lr}")
    group = ranked(tmp_path / "svm")
    assert (group.settings, group.unset) == (("optimizer.lr",), ("model.reg",))
    assert group.unset_note == "No command sets model.reg, which differs all the same."
    assert varying(group.runs) == ["model.reg", "optimizer.lr"]


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("fit --config svm --optimizer.lr 1", ["optimizer.lr"]),
        ("fit --config=svm --optimizer Adam", ["optimizer", "optimizer.lr"]),  # what belongs to the class comes with it
        ("fit --trainer.callbacks+=EarlyStopping --x 'a b'", ["trainer.callbacks.EarlyStopping.patience"]),
        ("fit --config my.yaml --x 1", None),
        ("fit --config=logs/svm/a/config.yaml", None),
        ("fit --ckpt_path logs/svm/a --optimizer.lr 1", None),
        ("fit --optimizer 'Ad", None),
        ("", None),
    ],
)
def test_a_command_tells_what_was_set_unless_it_names_a_file(
    tmp_path: Path, command: str, found: list[str] | None
) -> None:
    write_run(tmp_path / "svm" / "a", command=command)
    keys = ["optimizer", "optimizer.lr", "model.reg", "trainer.callbacks.EarlyStopping.patience"]
    assert set_by_somebody(keys, ranked(tmp_path / "svm").runs) == (keys if found is None else found)


def test_the_terminal_has_a_heading_and_a_table_for_each_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_topics(tmp_path / "logs")
    monkeypatch.chdir(tmp_path)
    main(["logs"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "logs: 7 runs: 7 finished"
    headings = [i for i, line in enumerate(lines) if "; ranked by " in line]
    assert lines[headings[0]] == "gan on MNIST  2 runs: 2 finished; ranked by val/fid"
    assert lines[headings[2]] == "svm on Digits  2 runs: 2 finished; ranked by val/accuracy"
    assert lines[headings[0] + 1].split() == ["run", "state", "best", "↓", "at", "last", "lr", "took"]
    assert lines[headings[0] + 3].split()[:4] == ["1", "g0", "finished", "20.0000"]
    assert len(headings) == 5 and all(lines[i - 1] == "" for i in headings)


def test_a_piped_table_has_the_width_of_COLUMNS(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(50):
        run = write_run(tmp_path / "logs" / "caption_transformer" / f"20261130-125042-{i:04}", [i / 100],
                        model="KNearestNeighbors", lr=i / 7, reg=i / 3, seed=i)  # fmt: skip
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(config.replace("modules.KN", "modules.KN" if i else "modules.Other"))
    monkeypatch.chdir(tmp_path)
    for width in (60, 90, 140):
        monkeypatch.setenv("COLUMNS", str(width))
        main(["logs"])
        table = capsys.readouterr().out.splitlines()[2:-2]
        assert max(map(len, table)) <= width
        assert sum("20261130-125042-" in line for line in table) == 50  # a pipe gets all rows
        assert any("KNearestNeighbors" in line for line in table)  # whole
    monkeypatch.setenv("COLUMNS", "wide")
    main(["logs"])
    assert "step 9, epoch 0" in capsys.readouterr().out


def test_a_metric_that_no_group_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_topics(tmp_path / "logs")
    monkeypatch.chdir(tmp_path)
    assert "No run has the metric 'val/fidd'; did you mean val/fid?" in refused(capsys, "logs", "--sort", "val/fidd")
