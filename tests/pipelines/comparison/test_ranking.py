"""Ranking the runs of a group, and the settings in which they differ."""

from pathlib import Path

import yaml

from pipelines.comparison.differences import short_names
from pipelines.tracking.curves import Point
from tests.pipelines.comparison.run_folders import compared, order, ranked, write_run, write_sweep


def test_the_best_come_first_and_ties_go_by_name(tmp_path: Path) -> None:
    for name, accuracy in {"c": [0.9, 0.2], "a": [0.7], "d": [0.8], "b": [0.7], "nan": ["nan"], "late": []}.items():
        write_run(tmp_path / "softmax" / name, accuracy)  # type: ignore[arg-type]
    group = ranked(tmp_path / "softmax")
    assert order(group) == ["c", "d", "a", "b", "late", "nan"]
    assert group.ranking_metric is not None and group.ranking_metric.name == "val/accuracy"
    assert group.best(group.runs[0]) == Point(9, 0, 0.9) and group.last(group.runs[0]) == Point(19, 1, 0.2)
    assert order(compared(tmp_path / "softmax", sort="train/loss"))[:2] == ["c", "a"]  # the smaller the better


def test_a_configuration_that_minimizes_ranks_the_other_way(tmp_path: Path) -> None:
    for name, value in {"a": 0.7, "b": 0.2, "c": 0.9}.items():
        write_run(tmp_path / name, [value], mode="min")
    assert order(compared(tmp_path)) == ["b", "a", "c"]


def test_a_sweeps_metric_and_goal_come_before_the_configurations(tmp_path: Path) -> None:
    for number, value in enumerate([0.5, 0.3, 0.9]):
        write_run(tmp_path / "logs" / "softmax" / f"first-{number:04}", [value], lr=10.0**-number)
    comparison = compared(write_sweep(tmp_path / "logs", goal="minimize"))
    assert order(comparison) == ["first-0001", "first-0000", "first-0002"]
    (group,) = comparison.groups
    trial = group.trial(group.runs[0])
    assert trial is not None and trial[1] == 1
    assert (comparison.title, group.settings) == ("first try", ("optimizer.lr",))
    (tmp_path / "logs" / "sweeps" / "first" / "sweep.yaml").write_text("method: [")
    damaged = compared(tmp_path / "logs" / "sweeps" / "first")  # falls back to the runs' configurations
    assert (order(damaged)[0], damaged.title) == ("first-0002", "first")


def test_only_settings_that_differ_are_shown(tmp_path: Path) -> None:
    """Callbacks that draw and the switches of what is printed are no settings; those that change a training are."""
    path = "lightning.pytorch.callbacks.EarlyStopping"
    callbacks = [[{"class_path": path, "init_args": {"patience": n}}] for n in (1, 5)]
    pictures = [{"class_path": "callbacks.Templates", "init_args": {"every_n_epochs": n}} for n in (1, 5)]
    write_run(tmp_path / "a", reg=1, lr=0.1, callbacks=[*callbacks[0], pictures[0]])
    write_run(tmp_path / "b", reg=1.0, lr=0.2, callbacks=callbacks[0])
    write_run(tmp_path / "c", reg=1, lr=0.3, callbacks=[*callbacks[1], *pictures])
    for name, shown in (("a", "true"), ("b", "false")):
        config = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        config["trainer"] |= {"enable_progress_bar": shown == "true", "log_every_n_steps": len(shown)}
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config))
    group = ranked(tmp_path)
    assert group.settings == ("optimizer.lr", "trainer.callbacks.EarlyStopping.patience")
    assert list(group.short_names.values()) == ["lr", "patience"]


def test_settings_of_a_class_that_differs_are_not_differences_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", optimizer="torch.optim.Adam")
    assert ranked(tmp_path).settings == ("optimizer",)


def test_short_names_are_unique() -> None:
    names = short_names(["model.lr", "optimizer.lr", "model", "data.batch_size", "lr"])
    assert list(names.values()) == ["model.lr", "optimizer.lr", "model", "batch_size", "lr"]
