"""The confusion matrix as a picture: every number, the colors behind them, and when it is shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from sklearn.metrics import confusion_matrix

import callbacks.confusion_matrix
from callbacks import ConfusionMatrix
from callbacks.confusion_matrix import confusion_chart, draw_confusion_matrix
from callbacks.pictures import Text
from datamodules import Digits
from modules import SoftmaxRegression
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

MATRIX = np.array([[6, 2, 0], [1, 0, 3], [0, 0, 8]])


def parts_of(matrix: np.ndarray, names: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Text]]:
    """Returns the axis of the picture of a confusion matrix, and the texts in its cells."""
    written: list[Text] = []

    def record(figure: Any, texts: list[Text]) -> Any:
        written.extend(texts)
        return figure

    monkeypatch.setattr(callbacks.confusion_matrix, "figure_to_array", lambda figure: figure)
    monkeypatch.setattr(callbacks.confusion_matrix, "write_texts", record)
    figure: Any = draw_confusion_matrix(matrix, names, "val")
    [axis] = figure.axes
    return axis, written


def test_numbers_are_percentages_of_each_true_class(monkeypatch: pytest.MonkeyPatch) -> None:
    axis, texts = parts_of(MATRIX, ["cat", "dog", "ship"], monkeypatch)
    to_data, height = axis.transData.inverted(), axis.figure.bbox.height
    cells = {}
    for text in texts:
        x, y = to_data.transform((text.position[0], height - text.position[1]))
        assert x == pytest.approx(round(x), abs=0.01) and y == pytest.approx(round(y), abs=0.01)  # in its middle
        cells[round(y), round(x)] = text.text
    expected = [["75", "25", "0"], ["25", "0", "75"], ["0", "0", "100"]]
    assert cells == {(row, column): expected[row][column] for row in range(3) for column in range(3)}
    image: Any = axis.images[0]
    np.testing.assert_allclose(image.get_array(), np.array([[0.75, 0.25, 0], [0.25, 0, 0.75], [0, 0, 1]]))
    assert image.get_clim() == (0, 1)
    assert axis.get_title() == "val: % of each true class; accuracy 70.0% of 20 images"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cat", "dog", "ship"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["cat", "dog", "ship"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "true class")


def test_classes_without_images_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    axis, texts = parts_of(np.array([[0, 0], [1, 3]]), ["a", "b"], monkeypatch)
    assert [(text.text, text.color) for text in texts] == [
        ("0", "black"),
        ("0", "black"),
        ("25", "black"),
        ("75", "white"),
    ]
    assert "accuracy 75.0% of 4 images" in axis.get_title()


def test_many_classes_are_colored_without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    axis, texts = parts_of(np.eye(21, dtype=np.int64), [str(i) for i in range(21)], monkeypatch)
    assert texts == []
    assert axis.images[0].get_array().shape == (21, 21)


def test_colors_grow_with_the_share() -> None:
    """Blues runs from nearly white to dark blue: of [[1, 0], [0, 1]] the diagonal is dark."""
    picture = draw_confusion_matrix(np.array([[9, 0], [0, 9]]), ["a", "b"], "val")
    assert picture.dtype == np.uint8
    dark = (picture == (8, 48, 107)).all(-1)  # the ends of matplotlib's map
    light = (picture == (247, 251, 255)).all(-1)
    (dark_rows, dark_columns), (light_rows, light_columns) = np.nonzero(dark), np.nonzero(light)
    assert np.corrcoef(dark_rows, dark_columns)[0, 1] > 0.5
    assert np.corrcoef(light_rows, light_columns)[0, 1] < -0.5


def test_shown_after_fit_and_after_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, np.ndarray] = {}

    def draw(matrix: np.ndarray, names: Any, split: str) -> np.ndarray:
        drawn[split] = matrix
        assert list(names) == list("0123456789")
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(callbacks.confusion_matrix, "draw_confusion_matrix", draw)
    data = Digits(batch_size=500)
    model = SoftmaxRegression(data.input_shape, data.num_classes)
    trainer = trainer_of(tmp_path, ConfusionMatrix(), max_epochs=2)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    assert list(drawn) == ["val", "test"]
    for split in ("val", "test"):
        images, labels = data.splits[split]
        with torch.no_grad():
            predicted = model(data.preprocessing(images)).argmax(1)
        np.testing.assert_array_equal(drawn[split], confusion_matrix(labels, predicted, labels=range(10)))
    assert (tmp_path / "pictures" / "confusion" / "val" / "00000004.png").is_file()
    assert len(list((tmp_path / "pictures" / "confusion" / "test").glob("*.png"))) == 1


def test_the_chart_has_every_count_under_the_names_that_its_preset_reads() -> None:
    chart = confusion_chart(MATRIX, ["cat", "dog", 3], "val")  # type: ignore[list-item]
    assert chart.preset == "wandb/confusion_matrix/v1"
    assert chart.fields == {name: name for name in ("Actual", "Predicted", "nPredictions")}
    assert chart.rows[:3] == [("cat", "cat", 6), ("cat", "dog", 2), ("cat", "3", 0)]
    assert (len(chart.rows), chart.rows[5], chart.texts) == (9, ("dog", "3", 3), {"title": "val images"})


def test_models_that_count_no_classes_are_left_alone(tmp_path: Path) -> None:
    trainer_of(tmp_path, ConfusionMatrix(), max_steps=1).fit(BoringModel())
    assert not (tmp_path / "pictures").exists()
