"""Which queries and neighbors are shown, with which titles and colors, and the curve of accuracies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import callbacks.accuracy_by_k
import callbacks.neighbors
from callbacks.accuracy_by_k import AccuracyByK, draw_accuracy_by_k
from callbacks.neighbors import Neighbors
from datamodules import Digits
from modules import SoftmaxRegression
from modules.neighbors.k_nearest_neighbors import KNearestNeighbors
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of


@pytest.mark.parametrize("preprocessing", ["pixels", "standardize"])
def test_queries_stand_beside_their_neighbors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preprocessing: Any
) -> None:
    grids = Shown(monkeypatch, callbacks.neighbors).calls
    curves = Shown(monkeypatch, callbacks.accuracy_by_k, "draw_accuracy_by_k").calls
    tables = Shown(monkeypatch, callbacks.neighbors, "log_table").calls
    data = Digits(preprocessing=preprocessing, batch_size=50)
    model = KNearestNeighbors(data.input_shape, 10, k=3, k_max=6)
    trainer = trainer_of(tmp_path, Neighbors(queries=12, count=4), AccuracyByK(), max_epochs=1, limit_train_batches=1)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    memory, classes = data.splits["train"]
    for split, grid, table in zip(("val", "test"), grids, tables, strict=True):
        images, titles, columns, title, colors = grid
        queries, labels = data.splits[split][0][:12], data.splits[split][1][:12]
        assert columns == 5
        assert title == f"{split}: images, left, and their nearest neighbors"
        rows = images.unflatten(0, (12, 5))
        torch.testing.assert_close(rows[:, 0], queries.float() / 255, rtol=0, atol=1e-5)
        for row, query in enumerate(queries):
            distances, indices = (memory.double() - query.double()).square().sum((1, 2, 3)).sort(stable=True)
            torch.testing.assert_close(rows[row, 1:], memory[indices[:4]].float() / 255, rtol=0, atol=1e-5)
            near = classes[indices[:4]].tolist()
            scale = 1.0 if preprocessing == "pixels" else float(data.preprocessing.fitted["scale"])
            first, *others = titles[5 * row : 5 * row + 5]
            assert first == data.class_names[labels[row]]
            assert others == [
                f"{data.class_names[c]}\n{scale * d**0.5:.4g}" for c, d in zip(near, distances.tolist(), strict=False)
            ]
            assert table[1] == f"tables/neighbors/{split}" and table[2][0] == "query"
            image, true, strip, names, far = table[3][row]
            pixels = torch.cat([query[None], memory[indices[:4]]]).permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
            np.testing.assert_array_equal(image, pixels[0])
            np.testing.assert_array_equal(strip.reshape(8, -1, 3)[:, 10:18], pixels[2])  # 8 pixels and a gap of 2 each
            assert (true, names) == (first, ", ".join(data.class_names[c] for c in near))
            assert far == ", ".join(other.split("\n")[1] for other in others)
            expected = ["green" if c == labels[row] else "red" for c in near]
            assert colors[5 * row : 5 * row + 5] == ["black", *expected]
    assert {color for *_, colors in grids for color in colors} == {"black", "green", "red"}
    for split in ("val", "test"):
        for name in ("neighbors", "accuracy_by_k"):
            assert (tmp_path / "pictures" / name / split).is_dir()
    assert [(len(values), k, split) for values, k, split in curves] == [(6, 3, "val"), (6, 3, "test")]
    assert curves[1][0] == pytest.approx(model.accuracy_by_k.tolist())


def test_fewer_images_than_neighbors_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids = Shown(monkeypatch, callbacks.neighbors).calls
    data = Digits(preprocessing="pixels", subset=10, batch_size=50)
    trainer_of(tmp_path, Neighbors(queries=2, count=40), max_epochs=1, limit_train_batches=1).fit(
        KNearestNeighbors(data.input_shape, 10, k=1, k_max=1), data
    )
    assert grids[0][2] == 11
    assert len(grids[0][0]) == 22


def test_a_model_without_neighbors_is_refused(tmp_path: Path) -> None:
    data = Digits()
    with pytest.raises(
        ValueError, match=r"^SoftmaxRegression has no neighbors to show; remove callbacks\.Neighbors from"
    ):
        trainer_of(tmp_path, Neighbors(), max_epochs=1, limit_train_batches=1).fit(
            SoftmaxRegression(data.input_shape, 10), data
        )


@pytest.mark.parametrize(("queries", "count"), [(0, 5), (5, 0)])
def test_numbers_below_one_are_refused(queries: int, count: int) -> None:
    with pytest.raises(ValueError, match=r"^(queries|count) is -?\d+; it must be at least 1\.$"):
        Neighbors(queries, count)


def test_the_curve_is_a_picture_that_changes_with_the_accuracies() -> None:
    one, other = (draw_accuracy_by_k(np.linspace(0.3, top, 100), 5, "val") for top in (0.4, 0.2))
    assert one.dtype == np.uint8
    assert one.shape == other.shape == (480, 768, 3)
    assert (one != other).any()
