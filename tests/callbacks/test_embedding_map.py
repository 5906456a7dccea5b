"""Where features land on the map, and which images are on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

import callbacks.embedding_map
from callbacks import EmbeddingMap
from callbacks.embedding_map import draw_map, project
from datamodules import Digits
from modules import LinearProbe, SoftmaxRegression
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def test_pca_is_scikit_learns_but_for_the_signs() -> None:
    features = torch.randn(60, 9, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 10.0)
    expected = PCA(2).fit_transform(features.double().numpy())
    np.testing.assert_allclose(np.abs(project(features, "pca")), np.abs(expected), rtol=1e-6, atol=1e-6)


def test_tsne_keeps_groups_together_and_repeats_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 1, 8, generator=generator) * 5 + 0.1 * torch.randn(3, 20, 8, generator=generator)
    points = project(features.flatten(0, 1), "tsne")
    assert np.array_equal(points, project(features.flatten(0, 1), "tsne"))
    groups = points.reshape(3, 20, 2)
    centers = groups.mean(1)
    within = np.linalg.norm(groups - centers[:, None], axis=2).max()
    between = min(np.linalg.norm(centers[i] - centers[j]) for i in range(3) for j in range(i))
    assert within < between / 2


def test_the_first_images_of_the_split_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps: list[tuple[np.ndarray, np.ndarray, Any, str]] = []

    def draw(*arguments: Any) -> np.ndarray:
        maps.append(arguments)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(callbacks.embedding_map, "draw_map", draw)
    data = Digits(batch_size=32)
    model = LinearProbe(data.input_shape, 10, backbone="test_resnet", options={"channels": [8, 8, 16, 16]})
    trainer = trainer_of(tmp_path, EmbeddingMap(50, "pca"), max_epochs=1, limit_train_batches=1)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    assert len(maps) == 2
    for split, (points, labels, names, title) in zip(("val", "test"), maps, strict=True):
        images, truth = (part[:50] for part in data.splits[split])
        with torch.no_grad():
            features = model.eval().features(data.preprocessing(images))
        np.testing.assert_allclose(points, project(features, "pca"), rtol=1e-3, atol=1e-4)
        assert labels.tolist() == truth.tolist() and names == data.class_names
        assert title == f"{split}: features of 50 images, PCA"
        assert (tmp_path / "pictures" / "embedding_map" / split).is_dir()


def test_the_picture_has_the_color_of_every_class() -> None:
    points = np.random.default_rng(0).normal(size=(200, 2))
    picture = draw_map(points, np.arange(200) % 2, ("cat", "dog"), "two")
    assert picture.dtype == np.uint8 and picture.shape == (780, 960, 3)
    strong = picture.reshape(-1, 3).astype(int)
    blue = (strong[:, 2] - strong[:, 0] > 80).sum()
    orange = (strong[:, 0] - strong[:, 2] > 80).sum()
    assert blue > 1000 and orange > 1000


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^count is 2; it must be at least 3\.$"):
        EmbeddingMap(2)
    with pytest.raises(ValueError, match=r"^method is 'umap'; it must be one of pca, tsne\.$"):
        EmbeddingMap(method="umap")  # type: ignore[arg-type]
    data = Digits()
    with pytest.raises(
        ValueError, match=r"^SoftmaxRegression has no features to map; remove callbacks\.EmbeddingMap from"
    ):
        trainer_of(tmp_path, EmbeddingMap(), max_epochs=1, limit_train_batches=1).fit(
            SoftmaxRegression(data.input_shape, 10), data
        )
