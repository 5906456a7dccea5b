"""From pretraining to linear probe and fine-tuning by the command line, on small digits and a tiny encoder."""

from pathlib import Path

import pytest
import torch

from tests.command_line import run_pipeline
from tests.helpers import rows
from tests.pipelines.test_distributed import TWO, train

ENCODER = ["--model.backbone", "test_resnet", "--model.options", "{channels: [8, 8, 16, 16]}"]
SHORT = ["--data", "Digits", "--data.batch_size", "64", "--trainer.precision", "32-true", "--trainer.logger", "false"]
PRETRAIN = [
    "fit", "--config", "simclr", *ENCODER, *SHORT, "--model.knn", "10", "--model.knn_memory", "200",
    "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "4", "--trainer.log_every_n_steps", "1",
    "--data.two_views.blur", "0.5", "--data.two_views.flip", "false",
    "--lr_scheduler", "torch.optim.lr_scheduler.ConstantLR", "--lr_scheduler.factor", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    done = run_pipeline("train", PRETRAIN, folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    (run,) = (folder / "logs" / "simclr").iterdir()
    return run


def test_pretraining_logs_its_figures_and_shows_its_pictures(run: Path) -> None:
    found = rows(run)
    assert sum(bool(row["val/knn_accuracy"]) for row in found) == 2
    for name in ("train/loss", "train/alignment", "train/uniformity"):
        assert sum(bool(row[name]) for row in found) == 8, name
    assert max(int(row["step"]) for row in found) == 7
    pictures = {str(file.parent.relative_to(run / "pictures")) for file in (run / "pictures").rglob("*.png")}
    assert {"positive_pairs", "embedding_map/val", "neighbors/val"} <= pictures


def test_the_learning_rate_is_that_of_the_batch(run: Path) -> None:
    """sqrt: batches of 64 take half the rate of 256."""
    assert [float(row["health/lr"]) for row in rows(run) if row["health/lr"]] == pytest.approx([1e-3] * 8)


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(run: Path, tmp_path: Path) -> None:
    """Killed in the second epoch; the views are drawn as before, and its learning rate is not scaled again."""
    killer = "--trainer.callbacks=[{class_path: tests.kill.KillAtStep, init_args: {step: 6}}]"
    killed = run_pipeline("train", [*PRETRAIN, killer, "--last_checkpoint.every_n_train_steps", "1"], tmp_path)
    assert killed.code == -9, killed.err
    (stopped,) = (tmp_path / "logs" / "simclr").iterdir()
    go_on = ["fit", "--ckpt_path", str(stopped), "--trainer.callbacks", "null"]
    continued = run_pipeline("train", go_on, tmp_path)
    assert continued.code == 0, continued.err
    mine, its = (torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (stopped, run))
    assert mine["global_step"] == its["global_step"] == 8
    for name, weight in its["state_dict"].items():
        assert torch.equal(mine["state_dict"][name], weight), name


@pytest.mark.parametrize("topic", ["linear_probe", "finetune"])
def test_probe_and_fine_tuning_start_from_the_checkpoint(run: Path, tmp_path: Path, topic: str) -> None:
    checkpoint = run / "checkpoints" / "best.ckpt"
    moved = tmp_path / "simclr.ckpt"
    moved.write_bytes(checkpoint.read_bytes())
    done = run_pipeline(
        "train",
        [
            "fit", "--config", topic, *ENCODER, *SHORT, "--model.checkpoint", str(moved), "--data.subset", "200",
            "--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1", "--data.flip", "false",
        ],
        tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    (probe,) = (tmp_path / "logs" / topic).iterdir()
    mine = torch.load(probe / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    its = torch.load(checkpoint, weights_only=True)["state_dict"]
    encoder = [name for name in its if name.startswith("encoder.")]
    assert all(torch.equal(mine[name], its[name]) for name in encoder) == (topic == "linear_probe")
    if topic == "finetune":
        return
    moved.unlink()  # its weights are in the run's own checkpoint now
    tested = run_pipeline("train", ["test", "--ckpt_path", str(probe)], tmp_path)
    assert tested.code == 0, tested.err
    assert "test/accuracy" in tested.out


def test_a_checkpoint_of_another_topic_ends_with_a_sentence(tmp_path: Path) -> None:
    short = ["--data", "Digits", "--trainer.max_epochs", "1", "--trainer.logger", "false"]
    assert run_pipeline("train", ["fit", "--config", "softmax", *short], tmp_path).code == 0
    checkpoint = next(tmp_path.rglob("best.ckpt"))
    done = run_pipeline("train", ["fit", "--config", "linear_probe", "--model.checkpoint", str(checkpoint)], tmp_path)
    assert done.code == 2
    assert done.err.splitlines()[-1].endswith(
        "best.ckpt is a checkpoint of SoftmaxRegression, not of SimCLR; use one that a run of simclr has written."
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model.temperature", "0"], "temperature is 0.0; it must be > 0, such as 0.5."),
        (["--data.batch_size", "1"], "NT-Xent got a batch of one image"),
        (["--data.two_views", "null"], "set data.two_views to {}"),
        (["--data.two_views.min_area", "0"], "min_area is 0.0; it must be in (0, 1]."),
        (["--data.flip", "true"], "two_views is set with flip True; leave that out"),
    ],
)
def test_mistakes_end_with_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = run_pipeline("train", [*PRETRAIN, *arguments, "--trainer.callbacks", "null"], tmp_path)
    assert done.code == 2, done.err
    assert sentence in done.err and "Traceback" not in done.err


def test_two_processes_find_the_accuracy_of_one(run: Path, tmp_path: Path) -> None:
    command = ["validate", "--ckpt_path", str(run), "--data.batch_size", "50"]
    outputs = []
    for devices in (TWO, ["--trainer.devices", "1"]):
        lines = train([*command, *devices], tmp_path).splitlines()
        outputs.append([line for line in lines if line.startswith("val/")])
    assert outputs[0] == outputs[1] and len(outputs[0]) == 2
