"""Shapes: drawn images of ten kinds of shape, 32×32 in color, a replacement for CIFAR-10 that needs no download."""

from typing import Any

import numpy as np

from common.ranges import check_range
from datamodules.images.image_data_module import ImageDataModule
from datamodules.images.shape_drawing import SHAPE_NAMES, draw_shapes


class Shapes(ImageDataModule):
    """Drawn images of ten kinds of shape, 32×32 in color, a replacement for CIFAR-10 that needs no download.

    Args:
        num_train: Number of training images to draw, validation split included, ≥ 10.
        num_test: Number of test images to draw, ≥ 10.
        draw_seed: Seed of the images, ≥ 0.

    Raises:
        ValueError: If there are fewer than 10 images, or a setting of `ImageDataModule` is outside its interval.
    """

    class_names = SHAPE_NAMES
    image_shape = (3, 32, 32)

    def __init__(self, num_train: int = 10_000, num_test: int = 2_000, draw_seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_range("num_train", num_train, num_train >= 10, "at least 10, one image of each kind")
        check_range("num_test", num_test, num_test >= 10, "at least 10, one image of each kind")
        check_range("draw_seed", draw_seed, draw_seed >= 0, "at least 0")
        self.official_sizes = (num_train, num_test)
        self.draw_seed = draw_seed

    def read(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        # Even and odd seeds: no training image is a test image, for any two values of draw_seed.
        drawn = draw_shapes(self.official_sizes[0 if train else 1], seed=2 * self.draw_seed + (not train))
        return drawn.images, drawn.labels
