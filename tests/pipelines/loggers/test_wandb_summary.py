"""The summary on W&B, by which its table and its sweeps rank runs, has the best values and those of best.ckpt."""

from pathlib import Path

import pytest
import torch
import yaml

from pipelines.comparison.find_runs import find_runs
from pipelines.comparison.ranking import compare
from tests.command_line import run_pipeline
from tests.helpers import figures, numbers, only_run
from tests.wandb_server import WandbServer

FIT = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.callbacks", "null"]
DIVERGING = [
    *FIT, "--trainer.max_epochs", "4", "--optimizer.lr", "3", "--data.batch_size", "100", "--lr_scheduler", "null",
]  # fmt: skip


def online(server: WandbServer, folder: Path) -> dict[str, str]:
    return {
        "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.url, "WANDB_MODE": "online",
        "NETRC": str(folder / "netrc"), "WANDB_CONFIG_DIR": str(folder / "config"),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "mode"), [("val/accuracy", "max"), ("val/loss", "min")])
def test_the_summary_is_that_of_the_best_checkpoint(tmp_path: Path, metric: str, mode: str) -> None:
    server = WandbServer()
    monitored = ["--checkpoint.monitor", metric, "--checkpoint.mode", mode]
    finished = run_pipeline("train", [*DIVERGING, *monitored], tmp_path, **online(server, tmp_path))
    assert finished.code == 0, finished.err
    run = only_run(tmp_path)
    (sent,) = server.runs.values()
    values = figures(run, metric)
    best = max(values) if mode == "max" else min(values)
    assert best != values[-1]
    assert sent.summary[metric] == sent.summary[f"best/{metric}"] == pytest.approx(best)
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    of_best = {"step": checkpoint["global_step"], "epoch": checkpoint["epoch"]}
    assert {name: sent.summary[f"best/{name}"] for name in of_best} == of_best
    other = "val/loss" if metric == "val/accuracy" else "val/accuracy"
    assert sent.summary[f"best/{other}"] == pytest.approx(figures(run, other)[values.index(best)])
    assert sent.summary["best/checkpoint"] == str(run.relative_to(tmp_path) / "checkpoints" / "best.ckpt")
    assert [row[metric] for row in sent.history if metric in row] == pytest.approx(values)

    before = dict(sent.summary)
    finished = run_pipeline("train", ["test", str(run)], tmp_path, **online(server, tmp_path))
    server.die()
    assert finished.code == 0, finished.err
    (row,) = [row for row in sent.history if "test/accuracy" in row]
    assert {"step": row["trainer/global_step"], "epoch": row["epoch"]} == of_best
    (row,) = [row for row in numbers(run) if "test/accuracy" in row]
    assert {name: row[name] for name in of_best} == of_best
    kept = [name for name in before if name.startswith(("best/", "val/"))]
    assert len(kept) >= 7 and all(sent.summary[name] == before[name] for name in kept)


@pytest.mark.slow
def test_a_run_that_was_resumed_offline_keeps_the_best_of_its_first_part(tmp_path: Path) -> None:
    assert run_pipeline("train", DIVERGING, tmp_path).code == 0  # untracked
    run = only_run(tmp_path)
    longer = ["fit", "--ckpt_path", str(run), "--trainer.max_epochs", "5"]
    finished = run_pipeline("train", longer, tmp_path, WANDB_MODE="offline")
    assert finished.code == 0, finished.err
    server = WandbServer()
    sent = run_pipeline("compare", ["upload"], tmp_path, **online(server, tmp_path))
    server.die()
    assert sent.code == 0, sent.err
    (summary,) = [one.summary for one in server.runs.values()]
    values = figures(run, "val/accuracy")
    assert len(values) == 5 and values[-1] < max(values) == pytest.approx(summary["val/accuracy"])
    assert summary["best/epoch"] == values.index(max(values)) < 4


@pytest.mark.slow
def test_a_sweep_of_ten_runs_is_ranked_alike_on_wandb_and_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [0.001, 0.01, 0.1, 0.3, 0.5, 1, 2, 3, 5, 10]
    content = {
        "method": "grid",
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "command": ["python", "-m", "pipelines.train", *FIT, "--config", "${args_json_file}"],
        "parameters": {"trainer.max_epochs": {"value": 5}, "optimizer.lr": {"values": rates}},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    server = WandbServer()
    sweep = ["run", "sweep.yaml", "--engine", "local", "--pack", "10"]
    finished = run_pipeline("sweep", sweep, tmp_path, **online(server, tmp_path))
    server.die()
    assert finished.code == 0, finished.err
    monkeypatch.chdir(tmp_path)
    ours = [run.run_id for run in compare(find_runs(["logs"]), ["logs"]).runs]
    assert len(ours) == 10 == len(server.runs)
    theirs = sorted(server.runs, key=lambda run_id: (-server.runs[run_id].summary["val/accuracy"], run_id))
    assert theirs == ours
    last = {run_id: [row["val/accuracy"] for row in run.history if "val/accuracy" in row][-1]
            for run_id, run in server.runs.items()}  # fmt: skip
    assert sorted(last, key=lambda run_id: (-last[run_id], run_id)) != ours  # as W&B's own summary ranks
    names = {run.settings["displayName"] for run in server.runs.values()}
    assert {"softmax · Digits · lr 0.3 · max_epochs 5", "softmax · Digits · lr 10 · max_epochs 5"} <= names
    assert len(names) == 10
