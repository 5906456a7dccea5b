"""Images, tables, histograms and charts reach each logger by its own call, on rank 0 alone, and W&B's real client."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from callbacks.media import Chart, Histogram, log_chart, log_histograms, log_image, log_table
from pipelines.tracking.wandb_run import finish_wandb, start_wandb
from tests.callbacks.fake_loggers import FakeComet, FakeMLFlow, FakeTensorBoard

PICTURE = np.random.default_rng(231).integers(0, 256, (5, 7, 3), dtype=np.uint8)
COLUMNS = ("image", "class", "loss")
ROWS = [(PICTURE, "cat", 0.5), (PICTURE[::-1], "dog", 2.0)]
VALUES = np.random.default_rng(0).normal(3, 2, 1000)
HISTOGRAM = Histogram(*np.histogram(VALUES, 20), float(VALUES.mean()), float(VALUES.std()), 0.0)
CHART = Chart("wandb/confusion_matrix/v1", ("a", "b"), [("x", 1), ("y", 2)], {"Actual": "a"}, {"title": "t"})


def run(folder: Path, *loggers: Any, **changes: Any) -> Any:
    return SimpleNamespace(**{"global_step": 42, "is_global_zero": True, "loggers": loggers} | changes)


def test_each_logger_gets_a_picture_by_its_own_call(tmp_path: Path) -> None:
    board, mlflow, comet = FakeTensorBoard(), FakeMLFlow(), FakeComet()
    log_image(run(tmp_path, CSVLogger(tmp_path), board, mlflow, comet), "confusion/val", PICTURE)
    [on_board], [on_mlflow], [on_comet] = (
        board.writer.of("add_image"), mlflow.client.of("log_image"), comet.calls.of("log_image")
    )  # fmt: skip
    assert (on_board["tag"], on_board["global_step"], on_board["dataformats"]) == ("confusion/val", 42, "HWC")
    assert (on_mlflow["run_id"], on_mlflow["key"], on_mlflow["step"]) == ("run-7", "confusion/val", 42)
    assert (on_comet["name"], on_comet["step"], on_comet["image_channels"]) == ("confusion/val", 42, "last")
    for image in (on_board["img_tensor"], on_mlflow["image"], on_comet["image_data"]):
        np.testing.assert_array_equal(image, PICTURE)


def test_tables_have_their_images_where_the_logger_shows_them(tmp_path: Path) -> None:
    board, mlflow, comet = FakeTensorBoard(), FakeMLFlow(), FakeComet()
    log_table(run(tmp_path, board, mlflow, comet), "tables/predictions/val", COLUMNS, ROWS)
    [table] = mlflow.client.of("log_table")
    assert table["artifact_file"] == "tables/predictions/val/00000042.json"
    assert list(table["data"]) == list(COLUMNS)
    assert all(isinstance(image, Image.Image) for image in table["data"]["image"])
    np.testing.assert_array_equal(np.asarray(table["data"]["image"][1]), PICTURE[::-1])
    assert (table["data"]["class"], table["data"]["loss"]) == (["cat", "dog"], [0.5, 2.0])
    [table] = comet.calls.of("log_table")
    assert table["filename"] == "tables/predictions/val/00000042.csv"
    assert (table["headers"], table["tabular_data"]) == (["class", "loss"], [["cat", 0.5], ["dog", 2.0]])
    assert board.writer.calls == []


def test_histograms_have_the_moments_of_their_values(tmp_path: Path) -> None:
    board, mlflow, comet = FakeTensorBoard(), FakeMLFlow(), FakeComet()
    log_histograms(run(tmp_path, board, mlflow, comet), {"weights/layers.0": HISTOGRAM})
    [given] = board.writer.of("add_histogram_raw")
    assert (given["tag"], given["global_step"], given["num"]) == ("weights/layers.0", 42, 1000)
    assert (given["min"], given["max"]) == (VALUES.min(), VALUES.max())
    assert (given["sum"], given["sum_squares"]) == pytest.approx((VALUES.sum(), (VALUES**2).sum()))
    upper = np.append(given["bucket_limits"][:-1], np.inf)
    np.testing.assert_array_equal(np.bincount(np.searchsorted(upper, VALUES, "right")), given["bucket_counts"])
    [given] = comet.calls.of("log_histogram_3d")
    assert (given["name"], given["step"]) == ("weights/layers.0", 42)
    assert np.mean(given["values"]) == pytest.approx(VALUES.mean(), abs=0.1)
    assert np.std(given["values"]) == pytest.approx(VALUES.std(), abs=0.1)
    assert mlflow.client.calls == []


def test_other_ranks_log_nothing(tmp_path: Path) -> None:
    board, mlflow, comet = FakeTensorBoard(), FakeMLFlow(), FakeComet()
    trainer = run(tmp_path, board, mlflow, comet, is_global_zero=False)
    log_image(trainer, "a", PICTURE)
    log_table(trainer, "b", COLUMNS, ROWS)
    log_histograms(trainer, {"c": HISTOGRAM})
    log_chart(trainer, "d", CHART)
    assert board.writer.calls + mlflow.client.calls + comet.calls.calls == []


def test_the_real_client_keeps_tables_charts_and_histograms_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    logger = start_wandb(tmp_path, "run-1", {"project": "lightning-231n"}, {}, "offline")
    assert logger is not None
    try:
        trainer = run(tmp_path, logger)
        log_table(trainer, "tables/predictions/val", COLUMNS, ROWS)
        log_chart(trainer, "charts/confusion/val", CHART)
        log_histograms(trainer, {"weights/layers.0": HISTOGRAM})
        summary = logger.experiment.summary
        assert summary["weights/layers.0"]["values"] == HISTOGRAM.counts.tolist()
        assert summary["weights/layers.0"]["bins"] == HISTOGRAM.edges.tolist()
        assert summary["trainer/global_step"] == 42
        assert summary["charts/confusion/val_table"]["_type"] == "table-file"
    finally:
        finish_wandb([logger], 0)
    media = next((tmp_path / "wandb").glob("offline-run-*")) / "files" / "media" / "table"
    [chart] = (media / "charts" / "confusion").glob("val_table_*.table.json")
    assert json.loads(chart.read_text()) == {"columns": ["a", "b"], "data": [["x", 1], ["y", 2]]}
    assert len(list((media / "tables" / "predictions").glob("val_*.table.json"))) == 1
    # The table's images are in an artifact, whose files wait in the run's folder until they are sent.
    staged = [file for file in (tmp_path / "wandb").rglob("staging/*") if file.is_file()]
    pictures = [np.asarray(Image.open(file)) for file in staged if file.read_bytes()[:4] == b"\x89PNG"]
    assert sorted(picture.tobytes() for picture in pictures) == sorted(image.tobytes() for image, *_ in ROWS)
