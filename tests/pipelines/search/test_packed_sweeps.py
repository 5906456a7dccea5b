"""Sweeps whose trials share processes: the same results, stops, kills and failures as with a process a trial."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from common.errors import UserError
from pipelines.run.status import read_status
from pipelines.search.launcher import run_search
from pipelines.search.packing import Packing, pack_size
from pipelines.search.search import Search
from pipelines.search.sweep_file import parse_sweep, read_sweep
from pipelines.trials.pack_process import PackedTrial
from tests.command_line import PROJECT, run_pipeline
from tests.helpers import figures, numbers
from tests.killed_sweep import kill_launcher, wait_for_checkpoints

COMMAND = ["python", "-m", "pipelines.train", "fit", "--config", "softmax", "--data", "Digits"]
FIXED = {"data.batch_size": 64, "trainer.max_epochs": 3, "trainer.callbacks": []}


def write_sweep(folder: Path, searched: dict[str, Any], fixed: dict[str, Any] = FIXED, **keys: Any) -> Path:
    """Writes a sweep file of softmax regression on digits."""
    content = {
        "method": "grid",
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "command": [*COMMAND, "--config", "${args_json_file}"],
        "parameters": {name: {"value": value} for name, value in fixed.items()} | searched,
        **keys,
    }
    (folder / "digits.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "digits.yaml"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PYTHONPATH": str(PROJECT), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)


def pack_processes(folder: Path) -> list[psutil.Process]:
    """Returns the processes that train packs in a working folder, forked from one that has imported what they need."""
    found = []
    for process in psutil.process_iter():
        try:
            parent = process.parent()
            lines = [" ".join(one.cmdline()) for one in (process, parent) if one is not None]
            if process.cwd() == str(folder) and all("warm_server" in line for line in lines):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("name", "values", "shared"),
    [
        ("optimizer.lr", {"values": [1, 2]}, True),
        ("optimizer", {"values": ["Adam", "SGD"]}, True),
        ("lr_scheduler.warmup", {"values": [0.0, 0.1]}, True),
        ("model.reg", {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0}, True),
        ("model.reg", {"values": [0, 0.1]}, True),
        ("model.hidden_size", {"values": [64, 128]}, False),
        ("model.normalization", {"values": ["batch", "layer"]}, False),
        ("data.flip", {"values": [True, False]}, False),
        ("seed_everything", {"values": [0, 1]}, False),
        ("trainer.max_epochs", {"values": [1, 2]}, False),
    ],
)
def test_trials_share_a_pack_if_they_differ_in_numbers_alone(
    tmp_path: Path, name: str, values: dict[str, Any], shared: bool
) -> None:
    file = write_sweep(tmp_path, {name: values}, method="random")
    search = Search.create(read_sweep(file), tmp_path / "logs", run_cap=2, pack=4)
    search.join()
    sizes = [len(trials) for trials in iter(Packing(search, shares=1).next, [])]
    assert sizes == ([2] if shared else [1, 1])
    search.leave()


def test_packs_divide_the_trials_among_the_shares_of_the_machine(tmp_path: Path) -> None:
    searched = {"model.reg": {"values": [i / 100 for i in range(10)]}, "data.flip": {"values": [True, False]}}
    search = Search.create(read_sweep(write_sweep(tmp_path, searched)), tmp_path / "logs", pack=8)
    search.join()
    packing = Packing(search, shares=2)
    packs = list(iter(packing.next, []))
    assert sorted(trial.number for trials in packs for trial in trials) == list(range(20))
    assert all(len(trials) <= 8 for trials in packs)
    assert all(len({trial.values["data.flip"] for trial in trials}) == 1 for trials in packs)
    assert [len(trials) for trials in packs[:2]] == [4, 4]
    search.leave()


def test_auto_packs_where_it_is_faster(tmp_path: Path) -> None:
    grid = read_sweep(write_sweep(tmp_path, {"model.reg": {"values": [0.1, 0.2]}}))
    bayes = read_sweep(write_sweep(tmp_path, {"model.reg": {"values": [0.1, 0.2]}}, method="bayes"))
    sizes = read_sweep(write_sweep(tmp_path, {"data.batch_size": {"values": [32, 64]}}))
    other = parse_sweep(
        tmp_path / "digits.yaml", grid.text.replace("pipelines.train", "my_program").replace("- python", "- echo")
    )
    assert pack_size(grid, None, "SoftmaxRegression", gpu=False, time_limit=None) == 32
    assert pack_size(bayes, None, "SoftmaxRegression", gpu=False, time_limit=None) == 8
    assert pack_size(grid, None, "TwoLayerNet", gpu=False, time_limit=None) == 1
    assert pack_size(grid, None, "TwoLayerNet", gpu=True, time_limit=None) == 32
    assert pack_size(grid, None, "SoftmaxRegression", gpu=False, time_limit=60.0) == 1
    assert pack_size(sizes, None, "SoftmaxRegression", gpu=False, time_limit=None) == 1
    assert pack_size(other, None, None, gpu=False, time_limit=None) == 1
    assert pack_size(sizes, 1, "SoftmaxRegression", gpu=False, time_limit=None) == 1
    with pytest.raises(
        UserError, match=r"--pack is 8, but trials share .* alone, and the sweep searches data.batch_size;"
    ):
        pack_size(sizes, 8, "SoftmaxRegression", gpu=False, time_limit=None)
    with pytest.raises(UserError, match="--pack is 2, but the command of the sweep does not start"):
        pack_size(other, 2, None, gpu=False, time_limit=None)


@pytest.mark.slow
def test_a_packed_sweep_has_the_figures_of_single_runs_and_a_failed_trial_is_alone(tmp_path: Path) -> None:
    searched = {"optimizer.lr": {"values": [0.001, 0.1]}, "model.reg": {"values": [0.01, 0.1, 1e30]}}
    search = Search.create(read_sweep(write_sweep(tmp_path, searched)), tmp_path / "logs", pack=8)
    run_search(search, parallel=1)
    trials = {trial.number: trial for trial in search.trials()}
    states = [trials[number].state for number in range(6)]
    assert states == ["finished", "finished", "failed", "finished", "finished", "failed"]
    assert "became" in str(trials[2].reason)
    for number in (0, 4):
        trial = trials[number]
        run = search.run_folder(trial)
        assert run is not None and read_status(run).state == "finished"
        assert trial.metric == figures(run, "val/accuracy") and len(trial.metric) == 3
        flags = [f"--{name}={value}" for name, value in trial.values.items()]
        alone = run_pipeline("train", [*COMMAND[3:], *flags], tmp_path, WANDB_RUN_ID=f"alone-{number}")
        assert alone.code == 0, alone.err
        for row, expected in zip(numbers(run), numbers(tmp_path / "logs" / "softmax" / f"alone-{number}"), strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_early_termination_takes_trials_out_of_a_pack(tmp_path: Path) -> None:
    searched = {"optimizer.lr": {"values": [1e-6, 1e-1, 1e-6 / 2, 1e-6 / 4]}}
    fixed = {**FIXED, "trainer.max_epochs": 200}
    early = {"type": "hyperband", "min_iter": 2}
    search = Search.create(
        read_sweep(write_sweep(tmp_path, searched, fixed, early_terminate=early)), tmp_path / "logs", pack=8
    )
    run_search(search, parallel=1)
    trials = {trial.number: trial for trial in search.trials()}
    assert trials[1].state == "finished" and len(trials[1].metric) == 200
    pruned = [trial for trial in trials.values() if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        run = search.run_folder(trial)
        assert run is not None and len(trial.metric) < 200
        assert (read_status(run).state, read_status(run).reason) == ("stopped", "the sweep: other trials did better")


@pytest.mark.slow
def test_trials_of_a_killed_pack_go_on_from_their_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searched = {"optimizer.lr": {"values": [0.001, 0.01, 0.1]}}
    fixed = {**FIXED, "trainer.max_epochs": 30}
    search = Search.create(read_sweep(write_sweep(tmp_path, searched, fixed)), tmp_path / "logs", pack=8)
    killed: list[int] = []

    def clock() -> float:
        """Kills the pack once its runs have checkpoints."""
        if not killed and len(list(tmp_path.glob("logs/softmax/*/checkpoints/last.ckpt"))) == 3:
            for process in pack_processes(tmp_path):
                killed.append(process.pid)
                process.kill()
        return time.monotonic()

    run_search(search, parallel=1, clock=clock)
    assert len(killed) == 1
    assert [trial.state for trial in search.trials()] == ["finished"] * 3
    for trial in search.trials():
        run = search.run_folder(trial)
        assert run is not None and "--ckpt_path" in read_status(run).command
        assert len(trial.metric) == 30
    assert "started again by itself: the process of its pack ended" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_process_and_its_trials_are_adopted_as_a_pack(tmp_path: Path) -> None:
    searched = {"optimizer.lr": {"values": [0.001, 0.01, 0.1]}}
    file = write_sweep(tmp_path, searched, {**FIXED, "trainer.max_epochs": 40})
    command = [sys.executable, "-m", "pipelines.sweep"]
    launcher = subprocess.Popen(
        [*command, "run", str(file), "--pack", "8", "--parallel", "1"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    wait_for_checkpoints(tmp_path, 3)
    assert len(pack_processes(tmp_path)) == 1
    sweep = kill_launcher(launcher, tmp_path)
    assert pack_processes(tmp_path) == []
    assert {trial.state for trial in Search(sweep).trials()} == {"interrupted"}
    subprocess.run([*command, "resume", str(sweep)], cwd=tmp_path, check=True, capture_output=True)
    for trial in Search(sweep).trials():
        run = Search(sweep).run_folder(trial)
        assert trial.state == "finished" and len(trial.metric) == 40
        assert run is not None and "--ckpt_path" in read_status(run).command
    assert list(sweep.glob("trials/pack-*.log"))


@pytest.mark.slow
def test_a_trial_that_can_not_share_a_process_is_started_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searched = {"optimizer.lr": {"values": [0.01, 0.1]}}
    fixed = {**FIXED, "trainer.logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "own"}}}
    search = Search.create(read_sweep(write_sweep(tmp_path, searched, fixed)), tmp_path / "logs", pack=8)
    run_search(search, parallel=1)
    assert [trial.state for trial in search.trials()] == ["finished"] * 2
    assert "trial   0  started again by itself: it has loggers of its own" in capsys.readouterr().out


def test_a_trial_that_is_slow_to_stop_does_not_take_the_others_of_its_pack_with_it() -> None:
    class Pack:
        killed = 0

        def kill(self) -> None:
            self.killed += 1

    pack: Any = Pack()
    pack.trials = first, second, third = [PackedTrial(number, pack) for number in range(3)]
    third.returncode = 0
    third.kill_group()
    first.kill_group()  # its time is over, but the validation of the second may take longer
    first.kill_group()
    assert pack.killed == 0
    second.kill_group()  # no trial is to go on
    assert pack.killed == 1
