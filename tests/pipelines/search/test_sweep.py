"""Whole sweeps started from the command line, with trials that need no torch and fail in every possible way."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from wandb import Settings

from pipelines import sweep
from pipelines.comparison.find_runs import find_runs
from pipelines.search.launcher import run_search
from pipelines.search.search import Search
from pipelines.search.sweep_file import read_sweep
from tests.command_line import PROJECT
from tests.fake_sweep import (
    DEADLINE,
    left_over,
    run_sweep,
    start_sweep,
    the_folder,
    the_trials,
    tried,
    wait_for_starts,
    write_sweep,
)


def test_a_grid_tries_every_point_once_in_order_and_names_the_best(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, parameters={"x": {"values": [3, 9, 5]}, "y": {"values": ["a", "b"]}})
    code, out, err = run_sweep(tmp_path, "run", str(file), "--parallel", "1")
    assert (code, err) == (0, "")
    assert tried(tmp_path) == [3, 3, 9, 9, 5, 5]
    assert "best: trial   2  val/accuracy 0.0900" in out and out.splitlines()[1].startswith(
        "grid search of fake; logs/"
    )
    assert the_trials(tmp_path)[0].values == {"x": 9, "y": "a"}
    code, out, _ = run_sweep(tmp_path, "best", str(the_folder(tmp_path)))
    assert code == 0 and "x: 9" in out and "--x=9 --y=a" in out
    code, out, _ = run_sweep(tmp_path, "show", str(the_folder(tmp_path)))
    rows = [line.split("│")[2].strip() for line in out.splitlines() if line.startswith("│")]
    assert rows == sorted(rows, reverse=True) and len(rows) == 6


def test_each_way_to_fail_fails_that_trial_alone_and_is_labeled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = ["well", "exception", "sentence", "exit 3", "sigkill", "nan", "hang"]
    file = write_sweep(tmp_path, parameters={"x": {"value": 50}, "how": {"values": ways}})
    monkeypatch.setenv("WANDB_MODE", "disabled")
    search = Search.create(read_sweep(file), tmp_path / "logs", time_limit=3600.0)
    hangs = tmp_path / "hangs"  # the last one; its hour passes at once
    run_search(search, 1, clock=lambda: time.monotonic() + 3601.0 * hangs.exists())
    reasons = {trial.values["how"]: trial.reason for trial in the_trials(tmp_path)}
    assert reasons == {
        "well": None,
        "exception": "exit status 1: RuntimeError: all is lost",
        "sentence": "exit status 1: x must be smaller; give less.",
        "exit 3": "exit status 3: no output",
        "sigkill": "killed by SIGKILL: out of memory?",
        "nan": "train/loss became nan at step 0",
        "hang": "ran longer than 3600 s",
    }
    states = Counter(trial.state for trial in the_trials(tmp_path))
    assert states == {"finished": 1, "failed": 6}
    assert left_over(tmp_path) == []


@pytest.mark.slow
def test_a_sweep_whose_trials_all_fail_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path, parameters={"x": {"values": [1, 2]}, "how": {"value": "sentence"}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(SystemExit) as end:
        sweep.main(["run", str(file), "--engine", "local"])
    assert end.value.code == 1
    assert (
        "error: all 2 trials failed, the last: exit status 1: x must be smaller; give less." in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_launcher_killed_twice_loses_nothing_repeats_nothing_and_leaves_no_process(tmp_path: Path) -> None:
    points = list(range(100))
    ways = ["exception", "nan", "sigkill", "exit 3", "hang"]
    hows = {str(10 * i + 5): ways[i % 5] for i in range(10)}
    parameters = {"x": {"values": points}, "hows": {"value": hows}, "pause": {"value": 0.1}, "steps": {"value": 2}}
    file = write_sweep(tmp_path, parameters=parameters)
    process = start_sweep(tmp_path, "run", str(file), "--parallel", "4", "--time-limit", "5")
    for kill in (20, 60):
        wait_for_starts(tmp_path, kill)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        process = start_sweep(tmp_path, "resume", str(the_folder(tmp_path)), "--parallel", "4")
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    trials = the_trials(tmp_path)
    assert sorted(trial.values["x"] for trial in trials) == points
    failed = {str(trial.values["x"]): str(trial.reason) for trial in trials if trial.state == "failed"}
    expected = {
        "exception": "lost",
        "nan": "nan",
        "sigkill": "SIGKILL",
        "exit 3": "status 3",
        "hang": "longer than 5 s",
    }
    assert failed.keys() == hows.keys() and all(expected[hows[x]] in reason for x, reason in failed.items())
    assert Counter(trial.state for trial in trials) == {"finished": 90, "failed": 10}
    repeated = len(tried(tmp_path)) - len(points)
    assert 0 <= repeated <= 8  # only those that ran when their launcher was killed start again
    assert left_over(tmp_path) == []


def test_two_launchers_share_the_work(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, parameters={"x": {"values": list(range(12))}, "pause": {"value": 0.3}})
    first = start_sweep(tmp_path, "run", str(file), "--parallel", "1")
    wait_for_starts(tmp_path, 1)
    second = start_sweep(tmp_path, "resume", str(the_folder(tmp_path)), "--parallel", "1")
    outs = [process.communicate(timeout=DEADLINE)[0] for process in (first, second)]
    assert sorted(tried(tmp_path)) == list(range(12))
    assert all(out.count("\ntrial ") >= 2 for out in outs)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_sweep_says_how_to_continue_and_does(tmp_path: Path, how: signal.Signals) -> None:
    file = write_sweep(tmp_path, parameters={"x": {"values": [1, 2, 3]}, "pause": {"value": 0.5}})
    process = start_sweep(tmp_path, "run", str(file), "--parallel", "1")
    wait_for_starts(tmp_path, 1)
    process.send_signal(how)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert f"python -m pipelines.sweep resume logs/sweeps/{the_folder(tmp_path).name}" in err
    assert left_over(tmp_path) == []
    assert [trial.state for trial in the_trials(tmp_path)] == ["interrupted"]
    assert run_sweep(tmp_path, "resume", str(the_folder(tmp_path)))[0] == 0
    assert sorted(trial.values["x"] for trial in the_trials(tmp_path)) == [1, 2, 3]


def test_random_search_is_reproducible_and_never_repeats_a_point(tmp_path: Path) -> None:
    parameters = {"x": {"min": 1, "max": 8}}
    orders = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        folder = tmp_path / name
        folder.mkdir()
        file = write_sweep(folder, method="random", parameters=parameters)
        assert run_sweep(folder, "run", str(file), "--parallel", "1", "--seed", seed)[0] == 0
        orders.append(tried(folder))
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == list(range(1, 9)) for order in orders)  # then it ends: no point is left


def test_bayes_finds_the_good_end_of_a_range(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, method="bayes", run_cap=25, parameters={"x": {"min": 0.0, "max": 100.0}})
    text = (PROJECT / "tests" / "fake_trial.py").read_text().replace("f\"{values['x']}\\n\"", '"1\\n"')
    (tmp_path / "trial.py").write_text(text)
    file.write_text(file.read_text().replace(str(PROJECT / "tests" / "fake_trial.py"), str(tmp_path / "trial.py")))
    assert run_sweep(tmp_path, "run", str(file), "--parallel", "2")[0] == 0
    by_number = sorted(the_trials(tmp_path), key=lambda trial: trial.number)
    late = [trial.values["x"] for trial in by_number[-10:]]
    assert len(by_number) == 25 and sum(late) / len(late) > 70  # chance alone: 50


@pytest.mark.slow
def test_hyperband_stops_the_poor(tmp_path: Path) -> None:
    parameters = {"x": {"values": [90, 10, 20, 95]}, "steps": {"value": 20}, "pause": {"value": 0.1}}
    file = write_sweep(tmp_path, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2}, parameters=parameters)
    assert run_sweep(tmp_path, "run", str(file), "--parallel", "1")[0] == 0
    states = {trial.values["x"]: (trial.state, len(trial.metric)) for trial in the_trials(tmp_path)}
    assert states[90] == states[95] == ("finished", 20)
    assert states[10][0] == states[20][0] == "pruned"
    assert max(states[10][1], states[20][1]) < 20


def test_a_metric_that_no_run_logs_is_noticed_after_the_first(tmp_path: Path) -> None:
    parameters = {"x": {"values": list(range(9))}, "logs": {"value": "val/loss"}}
    file = write_sweep(tmp_path, parameters=parameters)
    code, _, err = run_sweep(tmp_path, "run", str(file), "--parallel", "1")
    assert code == 2 and len(tried(tmp_path)) == 1
    assert "No run logs 'val/accuracy'" in err and "train/loss, val/loss" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("{", "[", 1), "damaged in line 1"),
        (lambda text: "7\n", "not a sweep's journal"),
        (lambda text: "", "not a sweep's journal"),
    ],
)
def test_a_damaged_journal_is_reported_in_one_sentence(tmp_path: Path, damage: Any, message: str) -> None:
    file = write_sweep(tmp_path, parameters={"x": {"values": [1]}})
    run_sweep(tmp_path, "run", str(file))
    journal = the_folder(tmp_path) / "journal.log"
    journal.write_text(damage(journal.read_text()))
    before = journal.read_bytes()
    code, _, err = run_sweep(tmp_path, "resume", str(the_folder(tmp_path)))
    assert code == 2 and message in err and err.count("\n") == 1
    assert journal.read_bytes() == before


def test_a_journal_with_an_incomplete_last_line_is_resumed(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, parameters={"x": {"values": [1, 2]}})
    run_sweep(tmp_path, "run", str(file), "--parallel", "1", "--run-cap", "1")
    journal = the_folder(tmp_path) / "journal.log"
    journal.write_bytes(journal.read_bytes()[:-5])  # as a full disk leaves it: the first trial never finished
    assert run_sweep(tmp_path, "resume", str(the_folder(tmp_path)))[0] == 0
    assert [trial.state for trial in the_trials(tmp_path)] == ["finished"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume", "nowhere"], "nowhere is not a sweep folder"),
        (["run", "nowhere.yaml"], "no sweep file nowhere.yaml"),
        (["run", "x.yaml", "--parallel", "0"], "0 is not a whole number of at least 1"),
        (["run", "x.yaml", "--time-limit", "-1"], "-1 is not a number of seconds greater than 0"),
        (["run", "x.yaml", "--pack", "0"], "0 is none of auto, off and a whole number of at least 1"),
        (["run", "x.yaml", "--pack", "many"], "many is none of auto, off and a whole number of at least 1"),
        (["walk"], "There is no command 'walk'; it must be one of check, run, resume, show, best."),
        ([], "COMMAND is missing"),
    ],
)
def test_a_wrong_command_line_is_answered_in_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, out, err = run_sweep(tmp_path, *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_engine_wandb_without_a_login_says_so_and_auto_needs_none(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, parameters={"x": {"values": [1]}})
    nobody = {"WANDB_API_KEY": "", "NETRC": str(tmp_path / "none"), "WANDB_MODE": ""}
    environment = {**os.environ, **nobody, "PYTHONPATH": str(PROJECT)}
    for engine, code in (("wandb", 2), ("wandb --seed 1", 2), ("wandb --pack 8", 2), ("auto", 0)):
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.sweep", "run", str(file), "--engine", *engine.split()],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert ("run `wandb login` first" in done.stderr) == (engine == "wandb")
        assert ("takes no --seed; add --engine local" in done.stderr) == ("seed" in engine)
        assert ("takes no --pack; add --engine local" in done.stderr) == ("pack" in engine)


@pytest.mark.parametrize("name", ["lr,reg [0.1] bob's #1: a;b?", "größe 日本"])
def test_a_sweep_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    file = write_sweep(tmp_path, parameters={"x": {"values": [1, 2]}}).rename(tmp_path / f"{name}.yaml")
    code, out, err = run_sweep(tmp_path, "run", str(file), "--parallel", "1")
    assert (code, err) == (0, "")
    for trial in the_trials(tmp_path):
        assert trial.state == "finished" and Settings(run_id=trial.run_id).run_id == trial.run_id
    assert f"-m pipelines.sweep show {shlex.quote(f'logs/sweeps/{the_folder(tmp_path).name}')}\n" in out
    assert not set(the_folder(tmp_path).name) & set(" '[]#")


def test_logs_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    """Trials start where the command was given, and all commands find them there."""
    here, store = tmp_path / "here", tmp_path / "big" / "store"
    here.mkdir()
    store.mkdir(parents=True)
    (here / "logs").symlink_to(store)
    (here / "relative.txt").write_text("found")
    trial = (PROJECT / "tests" / "fake_trial.py").read_text() + "\nPath('relative.txt').read_text()\n"
    (here / "trial.py").write_text(trial)
    command = ["python", "trial.py", "${args_json_file}"]
    file = write_sweep(here, command=command, parameters={"x": {"values": [1, 2, 3]}, "pause": {"value": 0.2}})
    process = start_sweep(here, "run", file.name, "--parallel", "1")
    wait_for_starts(here, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    sweep = f"logs/sweeps/{the_folder(here).name}"
    assert f"-m pipelines.sweep resume {sweep}\n" in err
    assert run_sweep(here, "resume", sweep)[0] == 0
    assert [trial.state for trial in the_trials(here)] == ["finished"] * 3
    assert sorted(path.name for path in (tmp_path / "big").iterdir()) == ["store"]
    assert len(list((here / "logs" / "fake").iterdir())) == 3
    (run,) = [line for line in run_sweep(here, "best", sweep)[1].splitlines() if "train test" in line]
    assert (here / run.split()[-1]).is_dir() and run.split()[-1].startswith("logs/fake/")
    (run_folders,) = find_runs([str(here / sweep)]).folders[:1]
    assert run_folders.name.startswith(the_folder(here).name)
    moved = Search(store / "sweeps" / the_folder(here).name)  # as another program names it
    assert moved.root == here and moved.folder == here / sweep


def test_a_finished_sweep_is_given_more_trials(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, run_cap=2, method="random", parameters={"x": {"min": 1, "max": 90}})
    _, out, _ = run_sweep(tmp_path, "run", str(file), "--parallel", "1", "--seed", "3")
    name = the_folder(tmp_path).name
    assert "\nmore trials " in out and f"-m pipelines.sweep resume logs/sweeps/{name} --run-cap 4\n" in out
    code, out, err = run_sweep(tmp_path, "resume", name, "--run-cap", "4", "--parallel", "1")
    assert (code, err) == (0, "") and len(tried(tmp_path)) == len(set(tried(tmp_path))) == 4
    copy = the_folder(tmp_path) / "sweep.yaml"
    copy.write_text(copy.read_text().replace('"run_cap": 2', '"run_cap": 5'))
    assert run_sweep(tmp_path, "resume", name)[0] == 0 and len(tried(tmp_path)) == 5
    assert run_sweep(tmp_path, "resume", name)[0] == 0 and len(tried(tmp_path)) == 5
    code, _, err = run_sweep(tmp_path, "resume", name, "--run-cap", "3")
    assert code == 2 and "--run-cap is 3, but the sweep has 5 trials already; give more" in err
    assert len(the_trials(tmp_path)) == 5
    # The same points as a sweep that had the larger number from the start.
    (tmp_path / "whole").mkdir()
    whole = write_sweep(tmp_path / "whole", run_cap=5, method="random", parameters={"x": {"min": 1, "max": 90}})
    assert run_sweep(tmp_path / "whole", "run", str(whole), "--parallel", "1", "--seed", "3")[0] == 0
    assert tried(tmp_path / "whole") == tried(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"values": [1, 2]', '"values": [1, 2, 3]', "parameters"),
        ('"x":', '"y": {"value": 1}, "x":', "parameters"),
        ('"grid"', '"random"', "method"),
        ('"maximize"', '"minimize"', "metric.goal"),
        ('"val/accuracy"', '"val/loss"', "metric"),
        ('"python"', '"python3"', "command"),
    ],
)
def test_an_edited_sweep_is_shown_but_not_resumed(tmp_path: Path, old: str, new: str, key: str) -> None:
    content = {"method": "grid", "metric": {"name": "val/accuracy", "goal": "maximize"}}
    content |= {"command": ["python", "${args}"], "parameters": {"x": {"values": [1, 2]}}}
    (tmp_path / "sweep.yaml").write_text(json.dumps(content))
    folder = Search.create(read_sweep(tmp_path / "sweep.yaml"), tmp_path / "logs").folder
    search = Search(folder)
    search.join()
    assert search.next_trial() is not None
    copy = folder / "sweep.yaml"
    assert old in copy.read_text()
    copy.write_text(copy.read_text().replace(old, new))
    reader = Search(folder)
    assert [trial.values for trial in reader.trials()] == [{"x": 1}]
    with pytest.raises(ValueError, match=rf"sweep\.yaml: {re.escape(key)} was edited since .*start a new sweep"):
        reader.extend(None)


def test_a_run_whose_trial_the_journal_does_not_know_is_kept(tmp_path: Path) -> None:
    """A journal restored from an older copy proposes other points under the numbers of runs that exist."""
    file = write_sweep(tmp_path, parameters={"x": {"values": [1, 2]}})
    assert run_sweep(tmp_path, "run", str(file), "--parallel", "1", "--run-cap", "1")[0] == 0
    folder = the_folder(tmp_path)
    run = next((tmp_path / "logs" / "fake").iterdir())
    other = run.rename(run.with_name(run.name[:-1] + "1"))
    (folder / "trials" / "0001.json").write_text('{"x": 7}')
    code, _, err = run_sweep(tmp_path, "resume", str(folder), "--run-cap", "2")
    assert code == 2 and "is a run with other values than trial 1 of the journal" in err and err.count("\n") == 1
    assert (other / "metrics.csv").is_file()


def test_no_trial_starts_after_the_target_is_reached(tmp_path: Path) -> None:
    metric = {"name": "val/accuracy", "goal": "maximize", "target": 0.2}
    file = write_sweep(tmp_path, metric=metric, parameters={"x": {"values": [10, 30, 20, 40]}})
    code, out, _ = run_sweep(tmp_path, "run", str(file), "--parallel", "1")
    assert code == 0 and tried(tmp_path) == [10, 30]
    assert "target reached     val/accuracy 0.2" in out


def test_the_project_and_entity_of_the_file_reach_the_trials(tmp_path: Path) -> None:
    write = (
        "import os, pathlib; pathlib.Path('said').write_text(os.environ['WANDB_PROJECT'] + os.environ['WANDB_ENTITY'])"
    )
    content = {"command": ["python", "-c", write, "${args}"], "project": "mine", "entity": "team"}
    file = write_sweep(tmp_path, parameters={"x": {"value": 1}}, **content)
    run_sweep(tmp_path, "run", str(file), environment={"WANDB_ENTITY": "other"})
    assert (tmp_path / "said").read_text() == "mineother"


def test_keys_that_only_wandb_uses_are_named(tmp_path: Path) -> None:
    metric = {"name": "val/accuracy", "goal": "maximize", "impute": "worst"}
    file = write_sweep(tmp_path, metric=metric, controller={"type": "local"}, parameters={"x": {"value": 1}})
    code, _, err = run_sweep(tmp_path, "run", str(file))
    assert code == 0
    assert err == f"Only W&B uses metric.impute, controller of {file}; this search does without.\n"
