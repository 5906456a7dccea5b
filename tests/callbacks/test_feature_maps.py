"""The picture of feature maps: the strongest of each stage, in a row behind their image."""

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from callbacks.feature_maps import FeatureMaps, feature_map_picture
from datamodules import Digits
from modules import ConvNet, SoftmaxRegression

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def test_the_strongest_map_comes_first() -> None:
    image = torch.zeros(1, 3, 8, 8)
    strong, weak = torch.zeros(4, 4), torch.zeros(4, 4)
    strong[:, 2:] = 1.0  # its right half is white
    weak[0, 0] = 0.1
    picture = feature_map_picture(image, {"stage 1": torch.stack([weak, strong])[None]}, 2)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    third = picture.shape[1] // 3
    for side, brightness in (
        (slice(third + third // 8, third + 3 * third // 8), 0),
        (slice(third + 5 * third // 8, third + 7 * third // 8), 255),
    ):
        middle = picture[2 * picture.shape[0] // 3, side]
        assert (middle == brightness).all()


def test_a_run_leaves_one_picture(tmp_path: Path) -> None:
    data = Digits(batch_size=64)
    model = ConvNet(data.input_shape, data.num_classes, [4, 8], 1)
    trainer = L.Trainer(
        max_epochs=1, callbacks=[FeatureMaps(num_images=3)], default_root_dir=tmp_path, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(model, data)
    (file,) = (tmp_path / "pictures" / "feature_maps").iterdir()
    width, height = Image.open(file).size
    assert file.stem == f"{trainer.global_step:08d}"
    assert width > 2 * height  # 1 image and 10 maps beside it, 3 rows


def test_refusals() -> None:
    with pytest.raises(ValueError, match="num_images is 0; it must be at least 1"):
        FeatureMaps(num_images=0)
    with pytest.raises(ValueError, match="SoftmaxRegression has no feature maps to show"):
        FeatureMaps().setup(L.Trainer(logger=False), SoftmaxRegression((1, 8, 8), 10), "fit")
