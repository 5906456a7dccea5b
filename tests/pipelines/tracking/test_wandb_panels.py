"""What the dashboard shows of a run: tables with their images, charts, and accuracies by class, online and offline."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import Digits
from tests.command_line import run_pipeline, train_on_two
from tests.helpers import figures, only_run
from tests.wandb_server import WandbServer
from tests.wandb_server.artifacts import Artifact

FIT = ["fit", "--config", "softmax", "--data", "Digits", "--trainer.max_epochs", "1"]
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
KEY = "a" * 40
TABLES = ("tables/predictions", "charts/confusion", "charts/precision_recall", "charts/roc")


def of(server: WandbServer) -> dict[str, str]:
    return {"WANDB_MODE": "online", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}


def table(artifact: Artifact) -> tuple[list[str], list[list[Any]]]:
    """Returns columns and rows of a table in an artifact, its images as arrays."""
    assert artifact.given["artifactTypeName"] == "run_table"
    (name,) = (name for name in artifact.files if name.endswith(".table.json"))
    content = json.loads(artifact.files[name])

    def cell(value: Any) -> Any:
        if isinstance(value, dict) and value["_type"] == "image-file":
            return np.asarray(Image.open(io.BytesIO(artifact.files[value["path"]])))
        return value

    return content["columns"], [[cell(value) for value in row] for row in content["data"]]


def assert_predictions(rows: list[list[Any]], split: str) -> None:
    """Asserts that the images are those of the indices, and that mistakes come first, the surest at the top."""
    data = Digits()
    data.setup("fit")
    data.setup("test")
    for index, image, label, *_ in rows:
        np.testing.assert_array_equal(image[..., 0], data.splits[split][0][index][0])
        assert label == data.class_names[data.splits[split][1][index]]
    mistakes = rows[:32]
    assert all(label != prediction for _, _, label, prediction, *_ in mistakes)
    assert [row[4] for row in mistakes] == sorted((row[4] for row in mistakes), reverse=True)
    assert [row[0] for row in rows[32:]] == sorted({*range(32)} - {row[0] for row in mistakes})


def logged_table(server: WandbServer, run: Path, key: str) -> tuple[list[str], list[list[Any]]]:
    """Returns columns and rows of the only table of a key; W&B's client adds a checksum to a name with slashes."""
    names = {artifact.given["artifactCollectionName"] for artifact in server.artifacts.by_id.values()}
    (name,) = (name for name in names if name.rpartition("-")[0] == f"run-{run.name}-{key.replace('/', '')}")
    (artifact,) = server.artifacts.versions(name)
    return table(artifact)


@pytest.mark.slow
def test_tables_and_charts_of_fit_and_test_arrive_with_their_images(tmp_path: Path) -> None:
    server = WandbServer()
    finished = run_pipeline("train", FIT, tmp_path, **of(server))
    assert finished.code == 0, finished.err
    run = only_run(tmp_path)
    tested = run_pipeline("train", ["test", "--ckpt_path", str(run)], tmp_path, **of(server))
    server.die()
    assert tested.code == 0, tested.err
    for split in ("val", "test"):
        columns, rows = logged_table(server, run, f"tables/predictions/{split}")
        assert columns == ["index", "image", "true class", "prediction", "confidence", "loss"]
        assert_predictions(rows, split)
        _, counts = logged_table(server, run, f"charts/confusion/{split}_table")
        accuracy = sum(number for true, predicted, number in counts if true == predicted) / sum(c[2] for c in counts)
        assert accuracy == pytest.approx(figures(run, f"{split}/accuracy")[-1])
        by_class = {true: number / sum(c[2] for c in counts if c[0] == true) for true, p, number in counts if true == p}
        for name, value in by_class.items():
            assert figures(run, f"{split}/accuracy/{name}")[-1] == pytest.approx(value)
    panels = server.config["_wandb"]["value"]["visualize"]
    assert {name for name in panels if name.startswith("charts/")} == {
        f"{chart}/{split}" for chart in TABLES[1:] for split in ("val", "test")
    }
    assert panels["charts/roc/val"]["panel_config"]["panelDefId"] == "wandb/area-under-curve/v0"
    logged = {name for row in server.history for name in row}
    assert {f"{name}/val" for name in TABLES[:1]} | {f"{name}/val_table" for name in TABLES[1:]} <= logged


@pytest.mark.slow
def test_an_offline_run_keeps_its_tables_in_its_folder_until_they_are_uploaded(tmp_path: Path) -> None:
    finished = run_pipeline("train", FIT, tmp_path, WANDB_MODE="offline", WANDB_DATA_DIR="")
    assert finished.code == 0, finished.err
    run = only_run(tmp_path)
    staged = [file for file in run.rglob("data/artifacts/staging/*") if file.is_file()]
    assert sum(file.read_bytes()[:4] == b"\x89PNG" for file in staged) > 32
    server = WandbServer()
    sent = run_pipeline("compare", ["upload"], tmp_path, **of(server))
    server.die()
    assert sent.code == 0, sent.out + sent.err
    assert_predictions(logged_table(server, run, "tables/predictions/val")[1], "val")


@pytest.mark.slow
def test_two_processes_send_the_table_of_one(tmp_path: Path) -> None:
    logged = []
    for processes in (1, 2):
        server = WandbServer()
        folder = tmp_path / str(processes)
        folder.mkdir()
        arguments = [*FIT, "--optimizer.lr", "0", "--data.batch_size", str(100 // processes)]
        if processes == 1:
            assert run_pipeline("train", arguments, folder, **of(server)).code == 0
        else:
            train_on_two([*arguments, *TWO], folder, **of(server))
        server.die()
        logged.append(logged_table(server, only_run(folder), "tables/predictions/val")[1])
    one, two = logged
    assert [row[0] for row in one] == [row[0] for row in two]
    assert [row[4:] for row in one] == [pytest.approx(row[4:], rel=1e-4) for row in two]
