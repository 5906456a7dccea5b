"""Which views are shown, how they stand, and that it happens once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import callbacks.positive_pairs
from callbacks import PositivePairs
from datamodules import Digits
from datamodules.images.two_views import TwoViews
from modules import SimCLR, SoftmaxRegression
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def test_the_first_batchs_views_stand_one_above_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids: list[tuple[Tensor, list[str], int, str]] = []

    def grid(*arguments: Any) -> np.ndarray:
        grids.append(arguments)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(callbacks.positive_pairs, "image_grid", grid)
    data = Digits(batch_size=16, two_views=TwoViews(flip=False))
    model = SimCLR(data.input_shape, 10, backbone="test_resnet", options={"channels": [8, 8, 16, 16]})
    trainer_of(tmp_path, PositivePairs(5), max_epochs=2, limit_train_batches=2, limit_val_batches=0).fit(model, data)
    ((images, titles, columns, _),) = grids  # once, over two epochs of two batches
    views, labels = next(iter(data.train_dataloader()))
    assert columns == 5 and images.shape == (10, 1, 8, 8)
    torch.testing.assert_close(images[:5], views[:5, 0] / 255, rtol=0, atol=1e-5)
    torch.testing.assert_close(images[5:], views[:5, 1] / 255, rtol=0, atol=1e-5)
    assert titles == [data.class_names[label] for label in labels[:5]] + [""] * 5
    (file,) = (tmp_path / "pictures" / "positive_pairs").iterdir()
    assert Image.open(file).size == (2, 2)


def test_batches_without_pairs_are_refused(tmp_path: Path) -> None:
    data = Digits(batch_size=16)
    with pytest.raises(ValueError, match=r"^The training batches \(16, 1, 8, 8\) contain no pairs of views; set data"):
        trainer_of(tmp_path, PositivePairs(5), max_epochs=2, limit_train_batches=2, limit_val_batches=0).fit(
            SoftmaxRegression(data.input_shape, 10), data
        )


def test_less_than_one_pair_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^pairs is 0; it must be at least 1\.$"):
        PositivePairs(0)
