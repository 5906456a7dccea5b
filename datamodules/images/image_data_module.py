"""What all small-image data sets share: one uint8 store in memory, splits, preprocessing and batched augmentation.

A data set is a subclass that says `class_names` and `image_shape` and reads its arrays in `read`. It is used alone,

    data = CIFAR10(batch_size=500)
    trainer.fit(SoftmaxRegression(data.input_shape, data.num_classes), data)

or from the command line, which makes these same links. The test images are read by `test` alone.

Shapes: N images of a split, B of a batch, C channels, H×W pixels.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import lightning as L
import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.ranges import check_range
from datamodules.images.augmentation import Albumentations, AugmentedImages, Border, Flip, WindowStore
from datamodules.images.features import FeatureBatches, FeatureName, Features, cached
from datamodules.images.image_files import find_images, read_images
from datamodules.images.preprocessing import Method, Preprocessing
from datamodules.images.two_views import PairsOfViews, TwoViews
from datamodules.input_dtype import in_format_of
from datamodules.loader import Batch, BatchLoader
from datamodules.splits import split_by_class

_SHARE_OF_FREE_GPU_MEMORY = 0.25  # the images move to the GPU if they take no more than this


class ImageDataModule(L.LightningDataModule):
    """Small images with one class each.

    Args:
        root: folder of the data files; each data set has a folder of its own in it.
        batch_size: images per step and process. With several processes a step sees batch_size × processes images.
        val_fraction: share of the official training images held out for validation, stratified, in [0, 1).
        num_folds: cut the training images into this many stratified folds instead (2 or more) …
        fold: … and validate on this one, 0 to num_folds − 1.
        subset: train on this many images of the training split, stratified; None takes all.
        preprocessing: scale, pixels (uint8), mean_image, standardize (per channel), pca or whiten; fitted to the
                training split.
        num_components: components that pca and whiten keep; None keeps all.
        crop_padding: pad training images by this many pixels and crop at random; 0 leaves them.
        crop_border: what they are padded with, zeros or reflect (the image's own reflection).
        flip: mirror training images left to right at random, or alternate: each in every other epoch.
        cutout: side in pixels of a square blanked at random in training images; 0 leaves them whole.
        rotation: turn training images at random by at most this many degrees.
        albumentations: a pipeline such as [{HorizontalFlip: {p: 0.5}}] for training images, after crop_padding has
            padded them and instead of our own crop and flip; it must give back images of the original size.
        num_workers: processes that prepare training batches; worth it with albumentations alone.
        split_seed: draws the validation images, the folds and the subset; the training seed does not.
        images: image files or folders that `predict` classifies.
        features: give the model these features instead of pixels, one or more of hog and hue, standardized; kept in
            `root/features` once they are computed. Of all that augments, flip alone goes with them.
        two_views: give the model two random views of each training image, (B, 2, C, H, W), for contrastive learning;
            they bring their own crop and flip.

    Raises:
        ValueError: a value out of the range given above.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]  # (C, H, W)

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
        check_range("val_fraction", val_fraction, 0 <= val_fraction < 1, "a share from 0 up to, but not, 1")
        check_range("subset", subset, subset is None or subset >= 1, "at least 1, or leave it out for all images")
        check_range("crop_padding", crop_padding, crop_padding >= 0, "0 pixels or more")
        check_range("crop_border", crop_border, crop_border in get_args(Border), "zeros or reflect")
        reflectable = crop_border == "zeros" or crop_padding < min(self.image_shape[1:])
        check_range("crop_padding", crop_padding, reflectable, "fewer pixels than the image has, to reflect them")
        check_range("flip", flip, flip in (True, False, "alternate"), "true, false or alternate")
        check_range("cutout", cutout, cutout >= 0, "0 pixels or more")
        check_range("rotation", rotation, 0 <= rotation <= 180, "0 to 180 degrees")
        check_range("num_workers", num_workers, num_workers >= 0, "0 or more")
        if (num_folds is None) != (fold is None):
            raise UserError(f"num_folds is {num_folds} and fold is {fold}; give both or neither.")
        if num_folds is not None and fold is not None:
            check_range("num_folds", num_folds, num_folds >= 2, "at least 2")
            check_range("fold", fold, 0 <= fold < num_folds, f"0 to {num_folds - 1}, since num_folds is {num_folds}")
        if albumentations and flip:
            raise UserError("flip and albumentations are both set; put HorizontalFlip into the pipeline instead.")
        own: dict[str, object] = {"crop_padding": crop_padding, "flip": flip, "cutout": cutout, "rotation": rotation}
        own |= {"albumentations": albumentations, "features": features}
        if two_views and (unfit := [f"{name} {value}" for name, value in own.items() if value]):
            raise UserError(
                f"two_views is set with {', '.join(unfit)}; leave that out: views are drawn of whole images."
            )
        if two_views and two_views.size and preprocessing not in ("scale", "pixels", "standardize"):
            raise UserError(
                f"two_views.size is {two_views.size} with preprocessing {preprocessing}, which is fitted to each pixel "
                "of the image; give preprocessing standardize or scale, or leave the size out."
            )
        if features is not None:
            pixels_alone: dict[str, object] = {
                "crop_padding": crop_padding,
                "cutout": cutout,
                "rotation": rotation,
                "albumentations": albumentations,
                "num_components": num_components,
                "preprocessing": preprocessing != "standardize" and preprocessing,
            }
            if unfit := [f"{name} {value}" for name, value in pixels_alone.items() if value]:
                raise UserError(
                    f"features are set with {', '.join(unfit)}, which works on pixels; leave it out, since features "
                    "are standardized and go with flip alone."
                )
        self.root = Path(root)
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.num_folds = num_folds
        self.fold = fold
        self.subset = subset
        self.crop_padding = crop_padding
        self.crop_border: Border = crop_border
        self.flip: Flip = flip
        self.cutout = cutout
        self.rotation = rotation
        self.num_workers = num_workers
        self.split_seed = split_seed
        self.images = images
        self.two_views = two_views
        self.preprocessing: Preprocessing | Features = (
            Preprocessing(preprocessing, num_components) if features is None else Features(features)
        )
        self.albumentations = Albumentations(albumentations) if albumentations else None
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}  # name: images (N, C, H, W) uint8, labels (N,) int64
        self._features: dict[str, Tensor] = {}  # name: features (N, 1 or 2, D), as they are and mirrored

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one preprocessed image, as a model receives it."""
        return self.preprocessing.output_shape(self.image_shape)

    def read(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        """Reads the official training or test images: (N, C, H, W) uint8 and (N,) int64. A data set's own."""
        raise NotImplementedError(f"{type(self).__name__} must say how its images are read.")

    def setup(self, stage: str) -> None:
        """Reads what the stage (`fit`, `validate`, `test`, `predict`) needs, once; then fits the preprocessing.

        Raises:
            ValueError: data files that are missing or damaged, or a subset larger than the training split.
        """
        if stage == "test" and "test" not in self.splits:
            images, labels = self.read(train=False)
            self.splits["test"] = torch.from_numpy(images), torch.from_numpy(labels)
            self._store_features(torch.from_numpy(images), {"test": torch.arange(len(images))})
        if stage in ("fit", "validate") and "train" not in self.splits:
            self._split_training_images()
        if stage == "fit":
            self.fit_preprocessing()

    def _split_training_images(self) -> None:
        images, labels = (torch.from_numpy(array) for array in self.read(train=True))
        kept, held_out = split_by_class(
            labels, self.val_fraction, self.num_folds, self.fold, self.subset, self.split_seed
        )
        self.splits["train"] = images[kept], labels[kept]
        self.splits["val"] = images[held_out], labels[held_out]
        self._store_features(images, {"train": kept, "val": held_out})

    def _store_features(self, images: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Features of all images read, (N, C, H, W), so that one file serves every split; kept for the parts' rows."""
        if not isinstance(self.preprocessing, Features):
            return
        found = cached(self.preprocessing, images, self.root / "features")
        self._features |= {split: found[rows][:, None] for split, rows in parts.items()}
        if self.flip and "train" in parts:
            mirrored = cached(self.preprocessing, images.flip(-1), self.root / "features")[parts["train"]]
            self._features["train"] = torch.stack([found[parts["train"]], mirrored], 1)

    def fit_preprocessing(self) -> None:
        """Fits the preprocessing to the training split, unless that was done or a checkpoint brought it along."""
        if not self.preprocessing.fitted:
            self.setup("validate")
            self.preprocessing.fit(self._inputs("train")[0])

    def _inputs(self, split: str) -> tuple[Tensor, Tensor]:
        """What the model is given of a split before it is preprocessed, images or features (N, D), and labels (N,)."""
        images, labels = self.splits[split]
        return (self._features[split][:, 0] if split in self._features else images), labels

    def evaluation_images(self, split: str, indices: Tensor) -> Tensor:
        """Images of the split `val` or `test` by their places in it, (M,): pixels in [0, 1], (M, C, H, W)."""
        return self.splits[split][0][indices].float() / 255

    def training_images(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """The training split in order, unaugmented: preprocessed images (N, *input_shape) and labels (N,).

        It is for models that need many images at once, such as nearest neighbors. Set up the stage `fit` before.

        Args:
            count: N, the first so many at most; None gives all.
        """
        self.fit_preprocessing()
        images, labels = (part[:count] for part in self._inputs("train"))
        if self.preprocessing.method == "pixels":
            return images, labels
        return torch.cat([self.preprocessing(chunk) for chunk in images.split(1000)]), labels

    def train_dataloader(self) -> BatchLoader:
        """Shuffled, augmented batches of the training split: uint8 images (B, C, H, W), views or features, labels."""
        self.fit_preprocessing()
        if "train" in self._features:
            stored, labels = self._on_device((self._features["train"], self.splits["train"][1]))
            return self._loader(FeatureBatches(stored, labels, self.flip), len(labels), training=True)
        images, labels = self._on_device(self.splits["train"], copies=2 if self.flip else 1)
        if self.two_views:
            return self._loader(PairsOfViews(images, labels, self.two_views), len(labels), training=True)
        fill = images.float().mean((0, 2, 3)).round() if self.cutout else torch.empty(0)
        store = WindowStore(images, self.crop_padding, self.flip, self.crop_border)
        fetch = AugmentedImages(store, labels, self.image_shape, self.albumentations, self.rotation, self.cutout, fill)
        if self.albumentations:
            # A pipeline that fails should say so before training, in this process.
            fetch(Batch(torch.arange(1), 0, 1, 0))
        return self._loader(fetch, len(labels), training=True)

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Batches of the validation split in order; an empty list if nothing is held out."""
        self.fit_preprocessing()
        return self._plain_loader("val") if len(self.splits["val"][1]) else []

    def test_dataloader(self) -> BatchLoader:
        """Batches of the official test images in order."""
        self.fit_preprocessing()
        return self._plain_loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """Batches of the image files in `images`, resized to the data set's size, with their indices as labels.

        Raises:
            ValueError: no images given, or a file that is no image.
        """
        self.fit_preprocessing()
        self.image_files = find_images(self.images or [])
        return self._loader(
            lambda batch: (read_images([self.image_files[i] for i in batch.indices], self.image_shape), batch.indices),
            len(self.image_files),
        )

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Preprocesses on the device: the images cross to it as uint8, a quarter of the bytes."""
        images, labels = batch
        return in_format_of(self.trainer, self.preprocessing(images)), labels

    def state_dict(self) -> dict[str, Any]:
        """What was fitted to the training split, for the checkpoint."""
        return {"preprocessing": self.preprocessing.method, **self.preprocessing.fitted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what was fitted when the checkpoint was written.

        Raises:
            ValueError: the checkpoint was trained on another preprocessing or number of components.
        """
        if state["preprocessing"] != self.preprocessing.method:
            raise UserError(
                f"The checkpoint was trained with preprocessing {state['preprocessing']}, not "
                f"{self.preprocessing.method}; leave --data.preprocessing and --data.features as they were."
            )
        fitted = {name: value for name, value in state.items() if name != "preprocessing"}
        if "directions" in fitted and fitted["directions"].shape[1:] != self.input_shape:
            raise UserError(
                f"The checkpoint was trained with {fitted['directions'].shape[1]} components, not "
                f"{self.input_shape[0]}; leave --data.num_components as it was."
            )
        self.preprocessing.fitted = fitted

    def _plain_loader(self, split: str) -> BatchLoader:
        images, labels = self._on_device(self._inputs(split))
        return self._loader(lambda batch: _slice(images, labels, batch.indices), len(labels))

    def _loader(self, fetch: Any, num_samples: int, training: bool = False) -> BatchLoader:
        return BatchLoader(
            fetch,
            num_samples,
            self.batch_size,
            training=training,
            seed=int(os.environ.get("PL_GLOBAL_SEED", "0")),  # set by lightning's seed_everything
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            num_workers=self.num_workers if training else 0,
        )

    def _on_device(self, split: tuple[Tensor, Tensor], copies: int = 1) -> tuple[Tensor, Tensor]:
        """The split on the training device if that is a GPU with room for it, else where it is."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type != "cuda" or self.albumentations:
            return split
        free, _ = torch.cuda.mem_get_info(device)
        if copies * split[0].nbytes > _SHARE_OF_FREE_GPU_MEMORY * free:
            return split
        return split[0].to(device), split[1].to(device)


def _slice(images: Tensor, labels: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Consecutive samples, as a view."""
    first, last = int(indices[0]), int(indices[-1])
    return images[first : last + 1], labels[first : last + 1]
