"""The table has the most confident mistakes, then the first images, with what the model computes for each of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import callbacks.prediction_table
from callbacks.prediction_table import COLUMNS, PredictionTable
from datamodules import Digits
from modules import KNearestNeighbors, LinearSVM, SoftmaxRegression
from modules.base.classifier import Classifier
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def expected_rows(model: Classifier, data: Digits, split: str, mistakes: int, sample: int) -> list[tuple[Any, ...]]:
    """The rows without images, by a sort over all images of the split."""
    images, labels = data.splits[split]
    model.eval()
    with torch.no_grad():
        logits = model(data.preprocessing(images))
        confidence, predicted = logits.softmax(1).max(1)
        order = [i for i in confidence.argsort(descending=True, stable=True).tolist() if predicted[i] != labels[i]]
        order = order[:mistakes]
        order += [i for i in range(sample) if i not in order]
        return [
            (
                i,
                data.class_names[labels[i]],
                data.class_names[predicted[i]],
                pytest.approx(float(confidence[i]), rel=1e-5),
                pytest.approx(float(model.loss(logits[i, None], labels[i, None])), rel=1e-4, abs=1e-6),
            )
            for i in order
        ]


def assert_logged(
    call: tuple[Any, ...], model: Classifier, data: Digits, split: str, mistakes: int, sample: int
) -> None:
    _, name, columns, rows = call
    assert (name, columns) == (f"tables/predictions/{split}", COLUMNS)
    assert [(row[0], *row[2:]) for row in rows] == expected_rows(model, data, split, mistakes, sample)
    for index, image, *_ in rows:
        pixels = data.splits[split][0][index].permute(1, 2, 0).expand(-1, -1, 3)
        np.testing.assert_array_equal(image, pixels)


def classifier(kind: type[Classifier], data: Digits) -> Any:
    torch.manual_seed(2)
    settings = {} if kind is KNearestNeighbors else {"weight_scale": 0.3}
    model: Any = kind
    return model(data.input_shape, data.num_classes, **settings)


@pytest.mark.parametrize("kind", [SoftmaxRegression, LinearSVM, KNearestNeighbors])
@pytest.mark.parametrize(("batch_size", "mistakes", "sample"), [(7, 5, 20), (50, 40, 3), (1000, 3, 60)])
def test_rows_are_those_of_a_sort_over_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Classifier], batch_size: int, mistakes: int, sample: int
) -> None:
    logged = Shown(monkeypatch, callbacks.prediction_table, "log_table").calls
    data = Digits(batch_size=batch_size)
    model = classifier(kind, data)
    trainer = trainer_of(tmp_path, PredictionTable(mistakes, sample), max_epochs=1)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    assert len(logged) == 2
    for call, split in zip(logged, ("val", "test"), strict=True):
        assert_logged(call, model, data, split, mistakes, sample)


def test_two_processes_log_what_one_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches of two ranks as the loader deals them out, gathered by a stand-in for the process group."""
    logged = Shown(monkeypatch, callbacks.prediction_table, "log_table").calls
    data = Digits(batch_size=16)
    model = classifier(SoftmaxRegression, data)
    data.setup("fit")
    data.setup("test")
    data.fit_preprocessing()
    images, labels = data.splits["test"]
    ranks = [PredictionTable(9, 40), PredictionTable(9, 40)]
    loader = SimpleNamespace(batch_size=16)
    trainers: list[Any] = [
        SimpleNamespace(world_size=2, datamodule=data, global_rank=rank, testing=True, test_dataloaders=loader)
        for rank in (0, 1)
    ]
    for start in range(0, len(labels), 16):
        rank = start // 16 % 2
        batch = data.preprocessing(images[start : start + 16]), labels[start : start + 16]
        with torch.no_grad():
            logits = model(batch[0])
        ranks[rank].on_test_batch_end(trainers[rank], model, logits, batch, start // 32)

    def gather(gathered: list[Any], _: Any) -> None:
        ranks[1].flush()
        gathered[:] = [(rank.mistakes, rank.sample) for rank in ranks]

    monkeypatch.setattr(dist, "all_gather_object", gather)
    ranks[0].on_test_end(trainers[0], model)
    [call] = logged
    assert_logged(call, model, data, "test", 9, 40)


def test_a_batch_on_the_evaluated_model_does_not_smooth_its_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of `fit` the model is in training mode, in which some losses differ."""

    class Doubled(SoftmaxRegression):
        def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
            return super().loss(logits, labels) * (2 if self.training else 1)

    logged = Shown(monkeypatch, callbacks.prediction_table, "log_table").calls
    data = Digits(batch_size=300)
    model = Doubled(data.input_shape, data.num_classes)
    trainer_of(tmp_path, PredictionTable(4, 4), max_epochs=1).fit(model, data)
    assert_logged(logged[0], model, data, "val", 4, 4)


def test_data_without_images_for_display_and_nothing_to_show_have_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = Shown(monkeypatch, callbacks.prediction_table, "log_table").calls
    data = Digits()
    model = classifier(SoftmaxRegression, data)
    data.setup("fit")
    loader: Any = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    trainer_of(tmp_path, PredictionTable()).test(model, torch.utils.data.DataLoader(loader, None), verbose=False)
    trainer_of(tmp_path, PredictionTable(0, 0)).test(model, data, verbose=False)
    assert logged == []


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^mistakes is -1; it must be at least 0\.$"):
        PredictionTable(mistakes=-1)
    with pytest.raises(ValueError, match=r"^sample is -2; it must be at least 0\.$"):
        PredictionTable(sample=-2)
