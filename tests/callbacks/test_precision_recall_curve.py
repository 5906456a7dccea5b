"""Curves agree with scikit-learn's, add up over batches and processes, and reach picture and charts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from torch import Tensor

import callbacks.precision_recall_curve
from callbacks.precision_recall_curve import (
    Curves,
    PrecisionRecallCurve,
    count_by_bin,
    curves_of,
    draw_curves,
    precision_recall_chart,
    roc_chart,
)
from datamodules import Digits
from modules import KNearestNeighbors, SoftmaxRegression
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def counted(*batches: tuple[Tensor, Tensor], classes: int) -> Tensor:
    counts = torch.zeros(classes, 2, callbacks.precision_recall_curve._BINS, dtype=torch.int64)
    for logits, labels in batches:
        count_by_bin(logits, labels, counts)
    return counts


def logits_and_labels(scale: float, number: int = 3000) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (number,), generator=generator)
    logits = scale * (torch.randn(number, 4, generator=generator) + torch.nn.functional.one_hot(labels, 4))
    return logits, labels


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 30.0])  # from undecided to certain of nearly everything
def test_areas_are_those_of_scikit_learn(scale: float) -> None:
    logits, labels = logits_and_labels(scale)
    scores = (logits.double() - torch.logsumexp(logits.double(), 1, keepdim=True)).numpy()
    counts = counted((logits, labels), classes=4).numpy()
    assert counts.sum() == 4 * 3000
    for label in range(4):
        curves = curves_of(counts[label])
        # Bins merge images whose log-odds differ by less than 0.003, those of undecided models most often.
        tolerance = 4e-3
        of_class, odds = labels.numpy() == label, _log_odds(scores[:, label])
        assert curves.average_precision == pytest.approx(average_precision_score(of_class, odds), abs=tolerance)
        assert curves.area == pytest.approx(roc_auc_score(of_class, odds), abs=tolerance)


def _log_odds(log_p: np.ndarray) -> np.ndarray:
    return np.clip(log_p - np.log(-np.expm1(np.minimum(log_p, -1e-300))), -16, 16)


def test_points_are_exact_where_scores_fall_into_different_bins() -> None:
    p = torch.tensor([0.9, 0.8, 0.6, 0.4, 0.3, 0.1])
    labels = torch.tensor([1, 1, 0, 1, 0, 0])
    counts = counted((torch.stack([torch.zeros(6), torch.logit(p)], 1), labels), classes=2).numpy()
    precision, recall, fpr = curves_of(counts[1])
    expected_precision, expected_recall, _ = precision_recall_curve(labels, p, drop_intermediate=False)
    np.testing.assert_allclose(precision, expected_precision[-2::-1])
    np.testing.assert_allclose(recall, expected_recall[-2::-1])
    np.testing.assert_allclose(fpr, [0, 0, 1 / 3, 1 / 3, 2 / 3, 1])


def test_counts_of_batches_add_up_and_invalid_logits_count_as_least_certain() -> None:
    logits, labels = logits_and_labels(2.0)
    parts = counted(*zip(logits.split(700), labels.split(700), strict=True), classes=4)
    assert torch.equal(parts, counted((logits, labels), classes=4))
    assert torch.equal(parts.sum(0, keepdim=True), counted((logits, labels), classes=1))
    broken = counted((torch.full((3, 2), float("nan")), torch.tensor([0, 1, 1])), classes=2)
    assert broken[:, :, 0].tolist() == [[1, 2], [2, 1]] and broken.sum() == 6


def test_a_long_curve_is_thinned_between_its_ends() -> None:
    curve = Curves(np.linspace(1, 0.2, 5000), np.linspace(0, 1, 5000), np.linspace(0, 0.9, 5000))
    thin = curve.thinned()
    assert len(thin.recall) == 100 and np.diff(thin.recall).max() < 0.011
    assert [values[0] for values in thin] == [1, 0, 0] and [values[-1] for values in thin] == [0.2, 1, 0.9]
    short = Curves(*(np.array([0.5, 1.0]) for _ in range(3)))
    assert [len(values) for values in short.thinned()] == [2, 2, 2]


def test_charts_have_every_class_and_the_fields_of_their_preset() -> None:
    curves = {"cat": Curves(np.array([1, 0.5]), np.array([0.4, 1]), np.array([0, 0.7]))}
    chart = precision_recall_chart(curves, "val")
    assert (chart.preset, chart.columns) == ("wandb/area-under-curve/v0", ("class", "recall", "precision"))
    assert chart.fields == {"x": "recall", "y": "precision", "class": "class"}
    assert chart.rows == [("cat", 0.4, 1), ("cat", 1, 0.5)]
    chart = roc_chart(curves, "val")
    assert chart.rows == [("cat", 0, 0), ("cat", 0, 0.4), ("cat", 0.7, 1)]
    assert chart.texts["x-axis-title"] == "False positive rate"


def test_the_picture_has_a_curve_of_each_class_and_its_areas(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[Any] = []

    def record(figure: Any, given: list[Any]) -> Any:
        texts.extend(given)
        return figure

    monkeypatch.setattr(callbacks.precision_recall_curve, "figure_to_array", lambda figure: figure)
    monkeypatch.setattr(callbacks.precision_recall_curve, "write_texts", record)
    curves = {
        "cat $": Curves(np.array([1, 0.4]), np.array([1.0, 1.0]), np.array([0.0, 1.0])),
        "dog": Curves(np.array([1, 0.5]), np.array([0.5, 1]), np.array([0, 1])),
    }
    figure: Any = draw_curves(curves, "test")
    left, right = figure.axes
    assert [text.text for text in texts[2:]] == ["cat $  1.000", "cat $  1.000", "dog  0.750", "dog  0.750"]
    assert [text.color for text in texts[2::2]] == [line.get_color() for line in left.lines]
    np.testing.assert_array_equal(left.lines[1].get_xydata(), [[0.5, 1], [1, 0.5]])
    np.testing.assert_array_equal(right.lines[1].get_xydata(), [[0, 0], [0, 0.5], [1, 1]])


@pytest.mark.parametrize("kind", [SoftmaxRegression, KNearestNeighbors])
def test_fit_and_test_show_the_curves_of_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    drawn = Shown(monkeypatch, callbacks.precision_recall_curve, "draw_curves").calls
    charts = Shown(monkeypatch, callbacks.precision_recall_curve, "log_chart").calls
    torch.manual_seed(0)
    data = Digits(batch_size=50)
    model: Any = kind(data.input_shape, data.num_classes)
    trainer = trainer_of(tmp_path, PrecisionRecallCurve(), max_epochs=2)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    assert [split for _, split in drawn] == ["val", "test"]
    for curves, split in drawn:
        images, labels = data.splits[split]
        with torch.no_grad():
            log_p = model(data.preprocessing(images)).double().log_softmax(1).numpy()
        for label, curve in enumerate(curves.values()):
            expected = average_precision_score(labels.numpy() == label, _log_odds(log_p[:, label]))
            assert curve.average_precision == pytest.approx(expected, abs=0.01)
    assert list(drawn[0][0]) == list("0123456789")
    names = [f"charts/{kind}/{split}" for split in ("val", "test") for kind in ("precision_recall", "roc")]
    assert [name for _, name, _ in charts] == names
    assert sorted(file.parent.name for file in (tmp_path / "pictures" / "curves").glob("*/*.png")) == ["test", "val"]


def test_many_classes_are_one_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Shown(monkeypatch, callbacks.precision_recall_curve, "draw_curves").calls
    monkeypatch.setattr(callbacks.precision_recall_curve, "_MOST_CLASSES", 9)
    torch.manual_seed(0)
    data = Digits(batch_size=500)
    model = SoftmaxRegression(data.input_shape, data.num_classes)
    trainer_of(tmp_path, PrecisionRecallCurve()).test(model, data, verbose=False)
    [(curves, _)] = drawn
    assert list(curves) == ["all classes"]
    images, labels = data.splits["test"]
    with torch.no_grad():
        p = model(data.preprocessing(images)).softmax(1)
    expected = average_precision_score(torch.nn.functional.one_hot(labels, 10).flatten(), p.flatten())
    assert curves["all classes"].average_precision == pytest.approx(expected, abs=0.01)


def test_a_model_that_returns_no_logits_is_refused(tmp_path: Path) -> None:
    class Silent(SoftmaxRegression):
        def test_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            super().test_step(batch, batch_idx)

    data = Digits()
    sentence = r"^The validation and test steps of Silent return no logits \(B, K\); return them, or remove callbacks\."
    with pytest.raises(ValueError, match=sentence):
        trainer_of(tmp_path, PrecisionRecallCurve()).test(Silent((1, 8, 8), 10), data, verbose=False)
