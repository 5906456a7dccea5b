"""The base of all small-image data sets: one uint8 tensor in memory, splits, preprocessing and batched augmentation.

A data set is a subclass that sets `class_names` and `image_shape` and reads its arrays in `read`. In a script,

    data = CIFAR10(batch_size=500)
    trainer.fit(SoftmaxRegression(data.input_shape, data.num_classes), data)

and the command line passes the same two arguments. Only the stage `test` reads the test images.

Shapes: N images of a split, B of a batch, C channels, H×W pixels, D features.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import lightning as L
import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.ranges import check_range
from common.user_paths import user_path
from datamodules.device_placement import on_training_device
from datamodules.files.given_images import GivenImages, find_images
from datamodules.images.augmentation import Border, Flip
from datamodules.images.features import FeatureBatches, FeatureName, Features, cached_features
from datamodules.images.image_files import Resize, read_given_images
from datamodules.images.preprocessing import Method, Preprocessing, fitted_of
from datamodules.images.training_augmentation import TrainingAugmentation
from datamodules.images.two_views import TwoViews
from datamodules.input_dtype import to_input_dtype
from datamodules.loader import BatchLoader
from datamodules.splits import StratifiedSplit

_BRIGHTNESS_IMAGES = 1000  # first training images whose mean brightness is recorded, in milliseconds


class ImageDataModule(L.LightningDataModule, ABC):
    """Base of the data sets of small images with one class each.

    Args:
        root: Folder of the data files, with one folder for each data set.
        batch_size: Images per step and process, ≥ 1. With several processes a step takes batch_size × processes images.
        val_fraction: Fraction of the official training images held out for validation, stratified by class, in [0, 1).
        num_folds: Number of stratified folds of the training images, ≥ 2; one of them then replaces val_fraction.
        fold: Index of the fold to validate on, in [0, num_folds − 1].
        subset: Number of training images to use after the split, stratified by class, ≥ 1; None uses all.
        preprocessing: Preprocessing, fitted to the training split: scale, pixels (uint8), mean_image, standardize (per
            channel), imagenet (with ImageNet's mean and deviation), pca or whiten.
        num_components: Number of components that pca and whiten keep, ≥ 1; None keeps all.
        crop_padding: Pixels of padding around training images before a random crop, ≥ 0; 0 turns the crop off.
        crop_border: Content of the padding: zeros, or reflect for the image's own reflection.
        flip: Whether to mirror training images left to right at random; alternate mirrors each in every other epoch.
        cutout: Side in pixels of a square blanked at a random position of training images, ≥ 0; 0 turns it off.
        rotation: Largest angle in degrees of a random rotation of training images, in [0, 180].
        albumentations: Pipeline for training images, such as [{HorizontalFlip: {p: 0.5}}]. It replaces crop and flip,
            takes images padded by crop_padding and must return images of the original size.
        num_workers: Number of processes that prepare training batches, ≥ 0; only albumentations gains from them.
        split_seed: Seed of the validation images, the folds and the subset, independent of the training seed.
        images: Image files or folders that `predict` classifies.
        features: Features that the model takes instead of pixels, standardized: one or more of hog, hue and color,
            of which hue needs RGB. They are cached in `root/features` and go with no augmentation but flip.
        two_views: Settings of two random views of each training image, (B, 2, C, H, W), for contrastive learning. They
            replace all other augmentation.

    Raises:
        ValueError: If a setting is outside its interval, or two settings exclude each other.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]  # (C, H, W)
    resize: Resize = "stretch"  # how the images of `predict` get this shape
    balanced: bool = False  # whether training draws every class equally often

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        val_fraction: float = 0.1,
        num_folds: int | None = None,
        fold: int | None = None,
        subset: int | None = None,
        preprocessing: Method = "standardize",
        num_components: int | None = None,
        crop_padding: int = 0,
        crop_border: Border = "zeros",
        flip: Flip = False,
        cutout: int = 0,
        rotation: float = 0.0,
        albumentations: list[str | dict[str, Any]] | None = None,
        num_workers: int = 0,
        split_seed: int = 0,
        images: list[str] | None = None,
        features: list[FeatureName] | None = None,
        two_views: TwoViews | None = None,
    ) -> None:
        super().__init__()
        check_range("batch_size", batch_size, batch_size >= 1, "at least 1")
        check_range("num_workers", num_workers, num_workers >= 0, "at least 0")
        self.augmentation = TrainingAugmentation(
            self.image_shape, crop_padding, crop_border, flip, cutout, rotation, albumentations, two_views
        )
        self.augmentation.check_inputs(preprocessing, num_components, features)
        self.root = user_path(root)
        self.batch_size = batch_size
        self.split = StratifiedSplit(val_fraction, num_folds, fold, subset, split_seed)
        self.num_workers = num_workers
        self.images = images
        self.preprocessing: Preprocessing | Features = (
            Preprocessing(preprocessing, num_components) if features is None else Features(features)
        )
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}  # name: images (N, C, H, W) uint8, labels (N,) int64
        self.given_images = GivenImages([])  # those of `predict`
        self.invert = False  # whether `predict` inverts them
        self.brightness: float | None = None  # mean of the training images in [0, 1], once fitted or from a checkpoint
        self._features: dict[str, Tensor] = {}  # name: (N, 1, D), or (N, 2, D) with those of the mirrored images

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_files(self) -> list[Path]:
        """Image files of `predict`, once its loader exists."""
        return self.given_images.files

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one preprocessed image, as a model takes it."""
        return self.preprocessing.output_shape(self.image_shape)

    @abstractmethod
    def read(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        """Reads the official training or test images: (N, C, H, W) uint8 and (N,) int64."""

    def setup(self, stage: str) -> None:
        """Reads the images of the stage (`fit`, `validate`, `test`, `predict`) once; `fit` fits the preprocessing.

        Raises:
            ValueError: If a data file is missing or damaged, or the subset is larger than the training split.
        """
        if stage == "test" and "test" not in self.splits:
            images, labels = map(torch.from_numpy, self.read(train=False))
            self.splits["test"] = images, labels
            self._store_features(images, {"test": torch.arange(len(images))})
        if stage in ("fit", "validate") and "train" not in self.splits:
            images, labels = map(torch.from_numpy, self.read(train=True))
            train, val = self.split(labels)
            self.splits |= {"train": (images[train], labels[train]), "val": (images[val], labels[val])}
            self._store_features(images, {"train": train, "val": val})
        if stage == "fit":
            self.fit_preprocessing()

    def _store_features(self, images: Tensor, splits: Mapping[str, Tensor]) -> None:
        """Keeps the features of each split's images; one cache file of all `images` (N, C, H, W) serves every split."""
        if not isinstance(self.preprocessing, Features):
            return
        features = cached_features(self.preprocessing, images, self.root / "features")
        self._features |= {split: features[indices][:, None] for split, indices in splits.items()}
        if self.augmentation.flip and "train" in splits:
            mirrored = cached_features(self.preprocessing, images.flip(-1), self.root / "features")
            self._features["train"] = torch.stack([part[splits["train"]] for part in (features, mirrored)], 1)

    def identity(self) -> dict[str, int | str]:
        """Returns the numbers of training and validation images, and a checksum of labels and images of both.

        Of the images a hundred are read, in a millisecond; another split or another file has another checksum.
        """
        checksum = 0
        for images, labels in (self.splits[name] for name in ("train", "val")):
            some = images[:: max(1, len(images) // 100)]
            for part in (labels, some):
                checksum = crc32(part.numpy().tobytes(), checksum)
        sizes = {f"{name}_images": len(self.splits[name][1]) for name in ("train", "val")}
        return {**sizes, "checksum": f"{checksum:08x}"}

    def fit_preprocessing(self) -> None:
        """Fits the preprocessing to the training split, unless it is fitted or came from a checkpoint."""
        if not self.preprocessing.fitted:
            self.setup("validate")
            self.preprocessing.fit(self._inputs("train")[0])
            self.brightness = float(self.splits["train"][0][:_BRIGHTNESS_IMAGES].float().mean()) / 255

    def _inputs(self, split: str) -> tuple[Tensor, Tensor]:
        """Inputs of a split before preprocessing, images (N, C, H, W) or features (N, D), and labels (N,)."""
        images, labels = self.splits[split]
        return (self._features[split][:, 0] if split in self._features else images), labels

    def evaluation_images(self, split: str, indices: Tensor) -> Tensor:
        """Returns images of the split `val` or `test` by their indices (M,): pixels in [0, 1], (M, C, H, W)."""
        return self.splits[split][0][indices].float() / 255

    def training_images(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Returns the training split in order, unaugmented: preprocessed images (N, *input_shape) and labels (N,).

        It is for models that need many images at once, such as nearest neighbors. Call `setup("fit")` before.

        Args:
            count: Largest number of images to return, the first ones; None returns all.
        """
        self.fit_preprocessing()
        images, labels = (part[:count] for part in self._inputs("train"))
        if self.preprocessing.method == "pixels":
            return images, labels
        return torch.cat([self.preprocessing(chunk) for chunk in images.split(1000)]), labels

    def train_dataloader(self) -> BatchLoader:
        """Shuffled, augmented batches of the training split: uint8 images (B, C, H, W), views or features, labels."""
        self.fit_preprocessing()
        flip = self.augmentation.flip
        if "train" in self._features:
            features, labels = self._on_device((self._features["train"], self.splits["train"][1]))
            return self._loader(FeatureBatches(features, labels, flip), len(labels), True, self.num_workers)
        images, labels = self._on_device(self.splits["train"], copies=2 if flip else 1)
        return self._loader(self.augmentation.batches(images, labels), len(labels), True, self.num_workers)

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Batches of the validation split in order; an empty list if nothing is held out."""
        self.fit_preprocessing()
        return self._evaluation_loader("val") if len(self.splits["val"][1]) else []

    def test_dataloader(self) -> BatchLoader:
        """Batches of the official test images in order."""
        self.fit_preprocessing()
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """Batches of the image files in `images`, resized to the data set's size, with their indices as labels.

        A file that can't be read is black in its batch and noted in `given_images`.

        Raises:
            ValueError: If `images` is empty, or a path in it does not exist.
        """
        self.fit_preprocessing()
        self.given_images = find_images(self.images or [])
        return self._loader(
            lambda batch: (
                read_given_images(self.given_images, batch.indices, self.image_shape, self.invert, self.resize),
                batch.indices,
            ),
            len(self.given_images.files),
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Preprocesses on the device, so that images are transferred as uint8, a quarter of the bytes.

        Returns images and labels; a tensor alone is a model's `example_input_array`, which is preprocessed already.
        """
        if isinstance(batch, Tensor):
            return to_input_dtype(self.trainer, batch)
        images, labels = batch
        return to_input_dtype(self.trainer, self.preprocessing(images)), labels

    def state_dict(self) -> dict[str, Any]:
        """Returns the fitted preprocessing and the training images' brightness, for the checkpoint."""
        brightness = {} if self.brightness is None else {"brightness": self.brightness}
        return {"preprocessing": self.preprocessing.method, **brightness, **self.preprocessing.fitted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the fitted preprocessing of a checkpoint.

        Raises:
            ValueError: If the checkpoint was trained with another preprocessing or number of components, or is damaged.
        """
        self.preprocessing.fitted = fitted_of(state, self.preprocessing.method, self.input_shape)
        brightness = state.get("brightness")  # version 0.1 did not record it
        if brightness is not None and not (isinstance(brightness, float) and 0 <= brightness <= 1):
            raise UserError(
                f"The brightness of the training images in the checkpoint is {str(brightness)[:40]!r}, not a number in "
                "[0, 1]; use another checkpoint of the run."
            )
        self.brightness = brightness

    def _evaluation_loader(self, split: str) -> BatchLoader:
        images, labels = self._on_device(self._inputs(split))
        return self._loader(lambda batch: (images[batch.span], labels[batch.span]), len(labels))

    def _loader(self, fetch: Any, num_samples: int, training: bool = False, num_workers: int = 0) -> BatchLoader:
        return BatchLoader(
            fetch,
            num_samples,
            self.batch_size,
            training=training,
            seed=int(os.environ.get("PL_GLOBAL_SEED", "0")),  # set by Lightning's seed_everything
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            num_workers=num_workers,
            same_batches=bool(getattr(self.trainer, "overfit_batches", 0)),
            classes=self.splits["train"][1].cpu() if training and self.balanced else None,
        )

    def _on_device(self, split: tuple[Tensor, Tensor], copies: int = 1) -> tuple[Tensor, Tensor]:
        """The split on the training device; albumentations needs it on the CPU."""
        return split if self.augmentation.pipeline else on_training_device(self.trainer, split, copies)
