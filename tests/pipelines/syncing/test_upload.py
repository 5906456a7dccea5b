"""`compare upload` sends what has not arrived, and nothing twice: of killed runs, and of runs whose server was away."""

import time
from pathlib import Path

import pytest

from pipelines.tracking.wandb_files import is_sent, parts
from tests.command_line import run_pipeline, start_pipeline
from tests.helpers import only_run, wait_until
from tests.pipelines.syncing.killed_runs import FIT, ORPHAN_SECONDS, account, assert_once, kill_at, killed_and_resumed
from tests.wandb_server import WandbServer

_NOTHING = "Nothing to send: W&B has everything of these runs."


def _upload(server: WandbServer, folder: Path) -> list[str]:
    sent = run_pipeline("compare", ["upload"], folder, **account(server, folder))
    assert sent.code == 0, sent.out + sent.err
    return sent.out.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "seconds"), [("online", 0.0), ("online", 3.0), ("offline", 0.0)])
def test_a_run_that_was_killed_and_not_continued_arrives(tmp_path: Path, mode: str, seconds: float) -> None:
    """Its last rows were only in the memory of W&B's client, and metrics.csv."""
    server = WandbServer()
    environment = {**account(server, tmp_path), "WANDB_MODE": mode}
    assert run_pipeline("train", [*FIT, kill_at(47, seconds)], tmp_path, **environment).code == -9
    time.sleep(ORPHAN_SECONDS)
    run = only_run(tmp_path)
    assert _upload(server, tmp_path)[-1] == "1 sent, 0 failed"
    assert_once(server.runs[run.name], run)
    assert server.runs[run.name].config["model"]["value"] == "SoftmaxRegression"
    assert _upload(server, tmp_path) == [_NOTHING]
    server.die()


@pytest.mark.slow
def test_a_run_whose_server_was_away_at_the_end_arrives_whole(tmp_path: Path) -> None:
    server = WandbServer()
    environment = {**account(server, tmp_path), "WANDB_FINISH_TIMEOUT": "1"}
    pause = "{class_path: tests.kill.Pause, init_args: {step: 47, seconds: 5}}"
    arguments = [*FIT, f"--trainer.callbacks=[TrainingHealth,Templates,{pause}]"]
    training = start_pipeline("train", arguments, tmp_path, **environment)
    wait_until(lambda: any(len(run.history) > 5 for run in server.runs.values()), "the first rows")
    server.away.set()
    ended = training.finish()
    assert ended.code == 0 and "send the rest with: " in ended.err, ended.err
    run = only_run(tmp_path)
    assert [is_sent(file) for file in parts(run)] == [False]
    failed = run_pipeline("compare", ["upload"], tmp_path, **environment, WANDB_HTTP_TIMEOUT="1")
    assert failed.code == 1 and "0 sent, 1 failed" in failed.out and "Traceback" not in failed.err
    server.away.clear()
    assert _upload(server, tmp_path)[-1] == "1 sent, 0 failed"
    assert_once(server.runs[run.name], run)
    assert server.runs[run.name].exit_code == 0
    assert _upload(server, tmp_path) == [_NOTHING]
    server.die()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 3.0], ids=["nothing sent", "all sent"])
def test_a_run_killed_online_and_continued_offline_arrives_once(tmp_path: Path, seconds: float) -> None:
    server = WandbServer()
    run = killed_and_resumed(tmp_path, account(server, tmp_path), {"WANDB_MODE": "offline"}, seconds)
    assert _upload(server, tmp_path)[-1] == "2 sent, 0 failed"
    assert_once(server.runs[run.name], run)
    server.die()


@pytest.mark.slow
def test_a_finished_run_is_not_sent_again(tmp_path: Path) -> None:
    server = WandbServer()
    assert run_pipeline("train", FIT, tmp_path, **account(server, tmp_path)).code == 0
    rows = list(server.history)
    assert _upload(server, tmp_path) == [_NOTHING]
    (file,) = parts(only_run(tmp_path))
    file.with_name(f"{file.name}.synced").unlink()  # as an earlier version left it
    assert _upload(server, tmp_path)[-1] == "1 sent, 0 failed"
    assert server.history == rows
    server.die()
