"""The augmentation of an image data module: which settings go together, and the training batches that they make.

Shapes: N training images, B images in a batch, C channels, H×W pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from common.errors import UserError
from common.ranges import check_range
from datamodules.images.augmentation import (
    Albumentations,
    AugmentedImages,
    Border,
    DecodedWindows,
    Flip,
    WindowStore,
)
from datamodules.images.preprocessing import Method
from datamodules.images.two_views import PairsOfViews, TwoViews
from datamodules.loader import Batch


@dataclass
class TrainingAugmentation:
    """Augmentation of training images, by the settings of the same names of `ImageDataModule`.

    Args:
        image_shape: (C, H, W) of the images.
        crop_padding: Pixels of padding before a random crop, ≥ 0.
        crop_border: Content of the padding, zeros or reflect.
        flip: Whether images are mirrored at random, or alternate.
        cutout: Side in pixels of a blanked square, ≥ 0.
        rotation: Largest angle in degrees, in [0, 180].
        albumentations: Pipeline that replaces crop and flip.
        two_views: Settings of two views of each image, which replace all other augmentation.

    Raises:
        ValueError: If a setting is outside its interval, flip and albumentations are both set, or albumentations
            refuses the pipeline.
    """

    image_shape: tuple[int, int, int]
    crop_padding: int
    crop_border: Border
    flip: Flip
    cutout: int
    rotation: float
    albumentations: Sequence[str | dict[str, Any]] | None
    two_views: TwoViews | None
    pipeline: Albumentations | None = field(init=False)

    def __post_init__(self) -> None:
        check_range("crop_padding", self.crop_padding, self.crop_padding >= 0, "at least 0")
        check_range("crop_border", self.crop_border, self.crop_border in get_args(Border), "zeros or reflect")
        side = min(self.image_shape[1:])
        fits = self.crop_border == "zeros" or self.crop_padding < side
        check_range("crop_padding", self.crop_padding, fits, f"less than {side}, the side of the images to reflect")
        check_range("flip", self.flip, self.flip in (True, False, "alternate"), "true, false or alternate")
        check_range("cutout", self.cutout, self.cutout >= 0, "at least 0")
        check_range("rotation", self.rotation, 0 <= self.rotation <= 180, "in [0, 180]")
        if self.albumentations and self.flip:
            raise UserError("flip and albumentations are both set; put HorizontalFlip into the pipeline instead.")
        self.pipeline = Albumentations(self.albumentations) if self.albumentations else None

    def check_inputs(self, preprocessing: Method, num_components: int | None, features: Sequence[str] | None) -> None:
        """Refuses augmentation that does not go with the model's inputs, which the settings of these names decide.

        Raises:
            ValueError: If two_views is set with other augmentation, with features, or with a size and a preprocessing
                that is fitted to each pixel; or features are set with a setting that works on pixels.
        """
        unfit = self._in_use("crop_padding", "flip", "cutout", "rotation", "albumentations")
        if self.two_views and (unfit := unfit + ([f"features {features}"] if features else [])):
            raise UserError(
                f"two_views is set with {', '.join(unfit)}; leave that out: views have their own augmentation."
            )
        if (
            self.two_views
            and self.two_views.size
            and preprocessing not in ("scale", "pixels", "standardize", "imagenet")
        ):
            raise UserError(
                f"two_views.size is {self.two_views.size} with preprocessing {preprocessing}, which is fitted to each "
                "pixel of the image; set preprocessing to standardize or scale, or leave the size out."
            )
        if features is None:
            return
        unfit = self._in_use("crop_padding", "cutout", "rotation", "albumentations")
        unfit += [f"num_components {num_components}"] if num_components else []
        unfit += [f"preprocessing {preprocessing}"] if preprocessing != "standardize" else []
        if unfit:
            raise UserError(
                f"features are set with {', '.join(unfit)}, which works on pixels; leave it out, since features are "
                "standardized and go with flip alone."
            )

    def batches(self, images: Tensor, labels: Tensor) -> Callable[[Batch], tuple[Tensor, Tensor]]:
        """Returns the function that fetches augmented batches of the training images.

        Args:
            images: Training images, (N, C, H, W) uint8.
            labels: Class of each image, (N,) int64.

        Raises:
            ValueError: If the albumentations pipeline fails on the first image or changes its size.
        """
        if self.two_views:
            return PairsOfViews(images, labels, self.two_views)
        store = WindowStore(images, self.crop_padding, self.flip, self.crop_border)
        return self._augmented(store, labels, lambda: images)

    def decoded_batches(
        self, images: Any, labels: Tensor, sample: Callable[[], Tensor]
    ) -> Callable[[Batch], tuple[Tensor, Tensor]]:
        """Returns the function that fetches the same batches of images that are decoded when they are indexed.

        Args:
            images: Training images, with the `index_select` of a tensor (N, C, H, W) uint8.
            labels: Class of each image, (N,) int64.
            sample: Returns images whose mean fills the squares of cutout, (M, C, H, W) uint8.

        Raises:
            ValueError: If the albumentations pipeline fails on the first image or changes its size.
        """
        if self.two_views:
            return PairsOfViews(images, labels, self.two_views)
        decode = partial(images.index_select, 0)
        return self._augmented(DecodedWindows(decode, self.crop_padding, self.flip, self.crop_border), labels, sample)

    def _augmented(
        self, store: WindowStore | DecodedWindows, labels: Tensor, sample: Callable[[], Tensor]
    ) -> AugmentedImages:
        fill = sample().float().mean((0, 2, 3)).round() if self.cutout else torch.empty(0)
        fetch = AugmentedImages(store, labels, self.image_shape, self.pipeline, self.rotation, self.cutout, fill)
        if self.pipeline:
            fetch(Batch(torch.arange(1), 0, 1, 0))  # so that a pipeline that fails does so before training starts
        return fetch

    def _in_use(self, *names: str) -> list[str]:
        """Those of the settings that are not off, each with its value."""
        return [f"{name} {value}" for name in names if (value := getattr(self, name))]
