"""The folder of a run: what names it, and that no new run replaces the results of another one."""

import shutil
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from pipelines.run.run_folder import RunFolder, topic_of
from pipelines.run.status import StatusFile, read_status
from tests.command_line import run_pipeline
from tests.helpers import numbers, weights

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1", "--trainer.callbacks", "null",
]  # fmt: skip


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_RUN_ID", "LIGHTNING_231N_RUN_ID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_command_goes_on_with_the_run_of_its_id(tmp_path: Path) -> None:
    """As a job that is preempted and queued again: killed in the second epoch, and started by the same command."""
    longer = [*FIT[:-2], "--trainer.max_epochs", "3", "--trainer.callbacks"]
    assert run_pipeline("train", [*longer, "null"], tmp_path, WANDB_RUN_ID="whole").code == 0
    kill = "{class_path: tests.kill.KillAtStep, init_args: {step: 5}}"
    assert run_pipeline("train", [*longer, f"[{kill}]"], tmp_path, WANDB_RUN_ID="abc").code == -9
    before = contents(tmp_path)
    tried = run_pipeline("train", [*FIT, "--trainer.fast_dev_run", "true"], tmp_path, WANDB_RUN_ID="abc")
    assert tried.code == 0 and contents(tmp_path) == before, tried.err  # it writes nothing
    again = run_pipeline("train", [*longer, "null"], tmp_path, WANDB_RUN_ID="abc")
    assert again.code == 0, again.err
    assert again.err == "WANDB_RUN_ID is 'abc': going on with logs/softmax/abc after step 4\n"
    runs = tmp_path / "logs" / "softmax"
    assert numbers(runs / "abc") == numbers(runs / "whole")
    for name, value in weights(runs / "whole").items():
        assert torch.equal(value, weights(runs / "abc")[name]), name
    before = contents(runs / "abc" / "checkpoints")
    done = run_pipeline("train", [*longer, "null"], tmp_path, WANDB_RUN_ID="abc")
    assert done.code == 0 and "already finished: it has 3 epochs, and trainer.max_epochs is 3" in done.out
    assert contents(runs / "abc" / "checkpoints") == before


def test_a_run_id_of_other_settings_or_another_topic_is_refused(tmp_path: Path) -> None:
    assert run_pipeline("train", FIT, tmp_path, WANDB_RUN_ID="abc").code == 0
    before = contents(tmp_path)
    other = [*FIT, "--optimizer.lr", "0.5", "--data.batch_size", "100"]
    refused = run_pipeline("train", other, tmp_path, WANDB_RUN_ID="abc")
    assert refused.code == 2, refused.out
    assert refused.err == (
        "error: WANDB_RUN_ID is 'abc', a run in logs/softmax/abc with data.batch_size 500, but data.batch_size is 100 "
        "and 1 more differ; give the same settings to go on, or continue it with other ones by --ckpt_path "
        "logs/softmax/abc, or unset WANDB_RUN_ID for a new run.\n"
    )
    refused = run_pipeline("train", ["fit", "--config", "svm", *FIT[3:]], tmp_path, WANDB_RUN_ID="abc")
    assert refused.code == 2, refused.out
    assert refused.err == (
        "error: WANDB_RUN_ID is 'abc', but logs/softmax/abc is a run of topic softmax; continue that run with "
        "--ckpt_path logs/softmax/abc, or unset WANDB_RUN_ID for a new one.\n"
    )
    assert {name: content for name, content in contents(tmp_path).items() if "status" not in name} == {
        name: content for name, content in before.items() if "status" not in name
    }
    longer = ["fit", "--ckpt_path", "logs/softmax/abc", "--trainer.max_epochs", "2"]
    resumed = run_pipeline("train", longer, tmp_path, WANDB_RUN_ID="abc")
    assert resumed.code == 0, resumed.err


def test_a_run_that_came_to_no_checkpoint_is_started_anew_in_its_folder(tmp_path: Path) -> None:
    assert run_pipeline("train", FIT, tmp_path, WANDB_RUN_ID="abc").code == 0
    run = tmp_path / "logs" / "softmax" / "abc"
    complete = (run / "metrics.csv").read_text()
    shutil.rmtree(run / "checkpoints")
    (run / "status.json").write_text('{"state": "running"}')
    assert read_status(run).state == "killed"
    with (run / "metrics.csv").open("a") as file:
        file.write("7,0.5")
    assert run_pipeline("train", FIT, tmp_path, WANDB_RUN_ID="abc").code == 0
    assert (run / "metrics.csv").read_text() == complete


@pytest.mark.parametrize("left", ["checkpoints/best.ckpt", "checkpoints/epoch=3.ckpt", "own/x.ckpt", "metrics.csv"])
def test_results_are_checkpoints_or_what_a_run_without_them_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    file = Path("logs", "gan", "abc", left)
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    with pytest.raises(UserError, match="logs/gan/abc is a run of topic gan"):
        RunFolder.new("svm")
    monkeypatch.setenv("WANDB_RUN_ID", "other")
    assert RunFolder.new("svm").path == Path("logs/svm/other")


def test_a_finished_run_without_checkpoints_is_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("logs", "svm", "abc")
    folder.mkdir(parents=True)
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    status = StatusFile(folder)
    assert RunFolder.new("svm").path == folder
    status.end("finished")
    with pytest.raises(UserError, match="has the results"):
        RunFolder.new("svm")


def test_the_topic_of_a_configuration_is_its_name() -> None:
    for config, topic in {
        "pipelines/configs/svm.yaml": "svm", "my.v2.yaml": "my.v2", "a/b/config.yaml": "config",
        "/config.yaml": "config",
    }.items():  # fmt: skip
        assert topic_of(Path(config)) == topic
    for config in ("...yaml", ".yaml", "..yaml", "a/.hidden.yaml", "sweeps.yaml"):
        with pytest.raises(UserError, match="can't be a folder of runs in logs; rename the file"):
            topic_of(Path(config))


def test_the_configuration_of_a_run_gives_the_topic_of_the_run() -> None:
    for left in ("status.json", "checkpoints/last.ckpt"):
        run = RunFolder(Path(left[:2], "softmax", "mine"))
        (run.path / left).parent.mkdir(parents=True, exist_ok=True)
        (run.path / left).touch()
        run.config.touch()
        assert topic_of(run.config) == "softmax"


def test_a_folder_of_checkpoints_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    assert run_pipeline("train", FIT, tmp_path, WANDB_RUN_ID="abc").code == 0
    run = tmp_path / "logs" / "softmax" / "abc"
    (tmp_path / "large").mkdir()
    shutil.move(run / "checkpoints", tmp_path / "large" / "here")
    (run / "checkpoints").symlink_to(tmp_path / "large" / "here")
    for given in (run, run / "checkpoints" / "last.ckpt"):
        found = RunFolder.of_checkpoint(given / "checkpoints" / "last.ckpt" if given.is_dir() else given)
        assert found is not None and found.path == run
    longer = ["fit", "--ckpt_path", "logs/softmax/abc", "--trainer.max_epochs", "2"]
    resumed = run_pipeline("train", longer, tmp_path)
    assert resumed.code == 0, resumed.err
    assert [path.name for path in (tmp_path / "logs" / "softmax").iterdir()] == ["abc"]


def test_a_trial_of_a_few_batches_leaves_nothing(tmp_path: Path) -> None:
    arguments = [*FIT[:-2], "--trainer.callbacks", "[Templates, ConfusionMatrix]"]
    assert run_pipeline("train", arguments, tmp_path, WANDB_RUN_ID="abc").code == 0
    before = contents(tmp_path)
    for command in (
        arguments,
        ["fit", "--ckpt_path", "logs/softmax/abc", "--trainer.max_epochs", "2"],
        ["test", "--ckpt_path", "logs/softmax/abc"],
    ):
        tried = run_pipeline("train", [*command, "--trainer.fast_dev_run", "true"], tmp_path, WANDB_RUN_ID="abc")
        assert tried.code == 0, tried.err
        assert contents(tmp_path) == before


def test_going_on_from_an_earlier_checkpoint_is_a_new_run(tmp_path: Path) -> None:
    often = [*FIT, "--trainer.max_epochs", "3", "--checkpoint.save_top_k", "-1", "--checkpoint.filename", "{epoch}"]
    assert run_pipeline("train", often, tmp_path, WANDB_RUN_ID="abc").code == 0
    run = tmp_path / "logs" / "softmax" / "abc"
    before = contents(run)
    earlier = min((run / "checkpoints").glob("epoch=*.ckpt"))
    branched = run_pipeline("train", ["fit", "--ckpt_path", str(earlier)], tmp_path)
    assert branched.code == 0, branched.err
    assert contents(run) == before
    assert "logs/softmax/abc/checkpoints/epoch=0.ckpt is from step " in branched.out
    assert "as a new run, and logs/softmax/abc keeps its results\n" in branched.out
    (other,) = set((tmp_path / "logs" / "softmax").iterdir()) - {run}
    step = torch.load(earlier, weights_only=True)["global_step"]
    kept = [row for row in numbers(run) if row["step"] >= step]
    assert numbers(other) == kept  # the same training, from there on
    (run / "checkpoints" / "last.ckpt").write_bytes(b"cut short")
    repaired = run_pipeline("train", ["fit", "--ckpt_path", str(earlier)], tmp_path)
    assert repaired.code == 0, repaired.err
    assert [row for row in numbers(run) if row["step"] >= step] == kept
    assert len(list((tmp_path / "logs" / "softmax").iterdir())) == 2
