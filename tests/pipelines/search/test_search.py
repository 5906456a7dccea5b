"""The state of a sweep as two processes see it at once."""

import errno
import io
import json
import os
import signal
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.search.sampling import propose
from pipelines.search.search import Search
from pipelines.search.sweep_file import SweepFile, read_sweep
from pipelines.search.trial_table import best_trial, print_trials


def _sweep(folder: Path, method: str = "random", parameters: dict[str, Any] | None = None) -> SweepFile:
    parameters = parameters or {"lr": {"min": 0.0, "max": 1.0}, "flip": {"values": [True, False]}}
    content = {"method": method, "metric": {"name": "val/loss"}, "command": ["true"], "parameters": parameters}
    (folder / "sweep.yaml").write_text(json.dumps(content))
    return read_sweep(folder / "sweep.yaml")


def test_a_reader_sees_what_a_launcher_notes_as_it_happens(tmp_path: Path) -> None:
    launcher = Search.create(_sweep(tmp_path), tmp_path / "logs")
    reader = Search(launcher.folder)
    launcher.join()
    trial = launcher.next_trial()
    assert trial is not None
    assert [trial.state for trial in reader.trials()] == ["running"]
    launcher.report(trial.number, [0.5, 0.2, 0.4])
    assert reader.trials()[0].metric == [0.5, 0.2, 0.4] and reader.trials()[0].best == 0.2
    launcher.finish(trial.number, "finished", None, 1.5)
    assert (reader.trials()[0].state, reader.trials()[0].seconds) == ("finished", 1.5)
    launcher.next_trial()
    launcher.leave()
    assert [trial.state for trial in reader.trials()] == ["finished", "interrupted"]


def test_a_trial_that_takes_every_launcher_down_is_given_up(tmp_path: Path) -> None:
    folder = Search.create(_sweep(tmp_path), tmp_path / "logs", run_cap=1).folder
    for _ in range(6):
        launcher = Search(folder)
        launcher.join()
        trial = launcher.next_trial()
        assert trial is not None and trial.number == 0
        launcher.leave()
    last = Search(folder)
    last.join()
    assert last.next_trial() is None
    assert (last.trials()[0].state, last.trials()[0].reason) == ("failed", "its launcher died 6 times while it ran")


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_that_learn_come_near_to_the_best(tmp_path: Path, sampler: str) -> None:
    search = Search.create(_sweep(tmp_path, "bayes"), tmp_path / "logs", "gp" if sampler == "gp" else "tpe")
    search.join()
    for number in range(30):
        trial = search.next_trial()
        assert trial is not None
        search.report(number, [abs(trial.values["lr"] - 0.3) + 0.5 * trial.values["flip"]])
        search.finish(number, "finished", None, 0.0)
    late = [trial for trial in search.trials() if trial.number >= 20]
    assert sum(abs(trial.values["lr"] - 0.3) for trial in late) / 10 < 0.15  # by chance 0.29
    assert sum(trial.values["flip"] for trial in late) <= 3  # by chance 5


def test_the_next_point_depends_on_the_past_and_the_seed_alone(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    points = [propose(sweep, [], "tpe", seed) for seed in (0, 0, 1)]
    assert points[0] == points[1] != points[2]


@pytest.mark.parametrize("method", ["random", "bayes"])
@pytest.mark.parametrize("largest", [2**32 - 1, 2**31 - 1, 2**63 - 1])
def test_a_seed_among_the_parameters_is_drawn_at_once(tmp_path: Path, method: str, largest: int) -> None:
    search = Search.create(_sweep(tmp_path, method, {"seed_everything": {"min": 0, "max": largest}}), tmp_path / "logs")
    search.join()
    tracemalloc.start()
    trials = [search.next_trial() for _ in range(3)]
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert len({trial.values["seed_everything"] for trial in trials if trial}) == 3


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({"x": {"values": [1, 2, 3], "probabilities": [0.999, 0.0005, 0.0005]}}, 3),
        ({"x": {"distribution": "q_log_uniform_values", "min": 1, "max": 30, "q": 10}}, 4),
        ({"x": {"min": 1, "max": 3}, "y": {"values": [True, False]}}, 6),
        ({"x": {"distribution": "q_normal", "sigma": 0.1}}, 1),  # 1 has a chance of 3e-7
        ({"x": {"distribution": "normal", "mu": 0.5, "sigma": 1.5e-300}}, 1),  # no double lies between
    ],
)
def test_a_search_ends_when_no_other_point_can_be_drawn(tmp_path: Path, parameters: dict[str, Any], count: int) -> None:
    search = Search.create(_sweep(tmp_path, "random", parameters), tmp_path / "logs", run_cap=20)
    search.join()
    keys = []
    while (trial := search.next_trial()) is not None:
        keys.append(json.dumps(trial.values))
        search.report(trial.number, [0.5])
        search.finish(trial.number, "finished", None, 0.0)
    assert len(keys) == len(set(keys)) == count


def test_names_and_values_in_brackets_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["z[/y]", "[bold]reg", ":smile:"]
    parameters = {name: {"values": ["[hog]", "[/hog]"]} for name in names}
    metric = {"name": "val/[red]loss", "goal": "minimize"}
    content = {"method": "grid", "metric": metric, "command": ["true", "${args}"], "parameters": parameters}
    (tmp_path / "[blue]x.yaml").write_text(json.dumps(content))
    search = Search.create(read_sweep(tmp_path / "[blue]x.yaml"), tmp_path / "logs")
    search.join()
    trial = search.next_trial()
    assert trial is not None
    search.finish(trial.number, "failed", "[/red] is no tag", 0.0)
    print_trials(search)
    out = capsys.readouterr().out
    assert all(name in out for name in [*names, "val/[red]loss", "[hog]", "[/red] is no tag"])


def test_on_a_terminal_the_trials_are_followed_until_the_launcher_has_ended(tmp_path: Path) -> None:
    """Also before the first trial, and while none runs between two; the best is marked, and Ctrl-C ends it quietly."""
    search = Search.create(_sweep(tmp_path), tmp_path / "logs")
    search.join()
    screen = io.StringIO()

    def first_trial() -> None:
        assert "0 trials" in screen.getvalue()
        trial = search.next_trial()
        assert trial is not None
        search.report(trial.number, [0.5])
        search.finish(trial.number, "finished", None, 1.0)

    def between_two() -> None:
        assert "finished, best" in screen.getvalue()
        assert search.next_trial() is not None

    def last() -> None:
        assert "1 running" in screen.getvalue()
        search.leave()

    steps = iter([first_trial, between_two, last])
    console = Console(file=screen, force_terminal=True, width=120)
    print_trials(Search(search.folder), console, lambda _: next(steps)())
    assert "1 interrupted" in screen.getvalue()

    search.join()
    print_trials(Search(search.folder), console, lambda _: signal.raise_signal(signal.SIGINT))
    search.leave()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["${env}", "python", "-m", "x", "--config", "${args_json_file}"], "python -m x --lr=null --a.b=1 '--n=[x y]'"),
        (["${args}"], "--lr=null --a.b=1 '--n=[x y]'"),
        (["python", "x", "--key=${envvar:KEY}", "${args_append_hydra}"], "python x \"--key=${KEY}\" +lr=None '+a={'"),
        (["${env}", "A=1", "${interpreter}", "a b.py", "${args_no_hyphens}"], "A=1 python 'a b.py' lr=None"),
    ],
)
def test_the_best_trial_s_command_can_be_pasted(tmp_path: Path, command: list[str], line: str) -> None:
    parameters = {"lr": {"value": None}, "a": {"parameters": {"b": {"value": 1}}}, "n": {"value": ["x y"]}}
    content = {"method": "grid", "metric": {"name": "val/loss"}, "command": command, "parameters": parameters}
    (tmp_path / "sweep.yaml").write_text(json.dumps(content))
    search = Search.create(read_sweep(tmp_path / "sweep.yaml"), tmp_path / "logs")
    search.join()
    trial = search.next_trial()
    assert trial is not None
    search.report(trial.number, [0.5])
    search.finish(trial.number, "finished", None, 1.0)
    printed = best_trial(search).splitlines()[-1]
    assert printed.startswith(line.removesuffix("'"))


def test_a_full_disk_names_the_journal_and_leaves_no_half_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search.create(_sweep(tmp_path), tmp_path / "logs")
    search.join()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        search.next_trial()
    assert raised.value.filename == str(search.folder / "journal.log")
    with pytest.raises(OSError, match="No space left"):
        Search.create(_sweep(tmp_path), tmp_path / "logs")
    assert list((tmp_path / "logs" / "sweeps").iterdir()) == [search.folder]
