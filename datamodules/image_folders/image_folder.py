"""ImageFolder: your own photos, with their folders as classes, or a CSV file of paths and labels.

    photos/cat/1.jpg  photos/dog/7.png                      split here: test_fraction, then val_fraction of the rest
    photos/train/cat/1.jpg  photos/test/cat/2.jpg           split by folders: train, val, test; a missing one is drawn
    labels.csv                                              columns path, label and, if the splits are given, split

Images of any size are resized to `size`. Those that fit into `max_memory` are decoded once and kept as one tensor like
every other data set; larger sets are decoded batch by batch in worker processes, with the same augmentation, the same
random numbers and the same exact resume. Both give the same batches, preprocessed alike up to 2,000 training images.

    python -m pipelines.train fit --config convnet --data ImageFolder --data.folder photos

Shapes: N images of a split, C channels, H×W pixels, K classes.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.messages.counting import count
from common.ranges import check_range
from datamodules.image_folders.decoded_images import DecodedBatches, DecodedImages, ReadableBatches
from datamodules.image_folders.labeled_files import LabeledFiles, find_labeled_files, listed
from datamodules.images.features import Features
from datamodules.images.image_data_module import ImageDataModule
from datamodules.images.image_files import Resize
from datamodules.loader import BatchLoader
from datamodules.splits import stratified_sample

_FITTED_IMAGES = 2000  # training images to which the preprocessing is fitted if they are not in memory
_IMBALANCE = 2  # ratio of the largest class to the smallest from which a run suggests balanced or weighted


class ImageFolder(ImageDataModule):
    """Your own images, with their folders as classes, or a CSV file of paths and labels.

    Args:
        folder: Folder with one folder of images for each class, or with such folders in train, val and test.
        labels: CSV file with the columns path and label, and split (train, val, test) if the splits are given, instead
            of class folders. Paths start from `folder`, or from the CSV file's folder if that is null.
        size: Side in pixels to which images are resized, ≥ 1.
        resize: How an image becomes square: crop takes its center, pad adds black borders, stretch distorts it.
        grayscale: Whether to read images in grayscale, instead of RGB.
        test_fraction: Fraction of the images held out as test images, stratified by class, in [0, 1); not used if there
            is a test folder or split. val_fraction is a fraction of the other images, not used if there is a val one.
        balanced: Whether an epoch draws every class equally often, those of rare classes several times.
        weighted: Whether a classifier's training loss weights each image by N / (K · images of its class).
        max_memory: Memory in GiB that the decoded images may take, ≥ 0; larger sets are decoded batch by batch.
        num_workers: Number of processes that prepare batches, ≥ 0, where images are decoded batch by batch or
            albumentations is set.

    Raises:
        ValueError: If a setting is outside its interval, or the folder or CSV file can't be used.
    """

    def __init__(
        self,
        folder: str | None = None,
        labels: str | None = None,
        size: int = 64,
        resize: Resize = "crop",
        grayscale: bool = False,
        test_fraction: float = 0.1,
        balanced: bool = False,
        weighted: bool = False,
        max_memory: float = 4.0,
        num_workers: int = 2,
        **kwargs: Any,
    ) -> None:
        check_range("size", size, size >= 1, "at least 1 pixel")
        check_range("resize", resize, resize in get_args(Resize), "crop, pad or stretch")
        check_range("test_fraction", test_fraction, 0 <= test_fraction < 1, "in [0, 1)")
        check_range("max_memory", max_memory, max_memory >= 0, "at least 0 GiB")
        if balanced and weighted:
            raise UserError("balanced and weighted are both set; set one of them, since together they count twice.")
        self.image_shape = (1 if grayscale else 3, size, size)
        super().__init__(num_workers=num_workers, **kwargs)
        self.folder, self.labels_file = folder, labels
        self.resize, self.balanced, self.weighted = resize, balanced, weighted
        self.test_fraction, self.max_memory = test_fraction, max_memory
        self._class_names: tuple[str, ...] | None = None  # those of a checkpoint, whose images may be gone

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, of the folders or CSV file unless they come from a checkpoint."""
        return self._class_names or self.labeled_files.class_names

    @class_names.setter
    def class_names(self, names: tuple[str, ...]) -> None:
        self._class_names = tuple(names)

    @cached_property
    def labeled_files(self) -> LabeledFiles:
        """The image files with their classes; their content is not read.

        Raises:
            ValueError: If the folder or CSV file can't be used.
        """
        return find_labeled_files(self.folder, self.labels_file)

    @cached_property
    def split_indices(self) -> dict[str, Tensor]:
        """Indices in `labeled_files` of the images of each split, `train`, `val` and `test`, in ascending order.

        Raises:
            ValueError: If no image of a class is left to train on.
        """
        found = self.labeled_files
        test, rest = found.indices("test"), found.indices("train", "val", "")
        if not len(test):
            drawn = stratified_sample(found.labels[rest], round(len(rest) * self.test_fraction), self.split.seed)
            test, rest = rest[drawn], _without(rest, drawn)
        val = found.indices("val")
        if len(val) and self.split.num_folds is None:
            train = _without(rest, torch.isin(rest, val).nonzero().flatten())
            if self.split.subset is not None:
                kept, _ = replace(self.split, val_fraction=0.0)(found.labels[train])
                train = train[kept]
        else:
            of_train, of_val = self.split(found.labels[rest])
            train, val = rest[of_train], rest[of_val]
        counts = torch.bincount(found.labels[train], minlength=len(found.class_names))
        if not counts.all() and self.split.subset is None:
            name = found.class_names[int(counts.argmin())]
            raise UserError(
                f"No image of the class {name} is left to train on; give more images of it, or a smaller val_fraction "
                "and test_fraction."
            )
        return {"train": train, "val": val, "test": test}

    @property
    def in_memory(self) -> bool:
        """Whether all decoded images fit into `max_memory`."""
        return len(self.labeled_files.files) * int(np.prod(self.image_shape)) <= self.max_memory * 2**30

    @property
    def class_weights(self) -> Tensor | None:
        """Weight of each class in the training loss, (K,), N / (K · its training images); None if not `weighted`."""
        if not self.weighted:
            return None
        counts = self._class_counts()
        return counts.sum() / (self.num_classes * counts.clamp(min=1))

    def _class_counts(self) -> Tensor:
        """Number of training images of each class, (K,) int64."""
        labels = self.labeled_files.labels[self.split_indices["train"]]
        return torch.bincount(labels, minlength=len(self.labeled_files.class_names))

    def summary(self) -> list[str]:
        """Returns lines for the start of a run: the images of each split, and those of each class."""
        found, splits = self.labeled_files, self.split_indices
        numbers = ", ".join(f"{len(indices):,} {split}" for split, indices in splits.items())
        where = self.labels_file or self.folder
        memory = "" if self.in_memory else f"; decoded batch by batch by {count(self.num_workers, 'worker')}"
        lines = [f"images: {numbers}, in {where}{memory}"]
        counts = self._class_counts()
        order = counts.argsort(descending=True, stable=True).tolist()
        named = [f"{found.class_names[i]} {counts[i]:,}" for i in order]
        shown = named if len(named) <= 10 else [*named[:5], "…", *named[-4:]]
        ratio = int(counts.max()) / max(1, int(counts.min()))
        hint = ""
        if ratio >= _IMBALANCE and not (self.balanced or self.weighted):
            hint = f"; the largest has {ratio:.1f} times as many as the smallest; balanced or weighted evens that out"
        return [*lines, f"{count(len(counts), 'class')}: {', '.join(shown)} training images{hint}"]

    def read(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        """Decodes the training and validation images, or the test images: those that can be read."""
        indices = self.split_indices
        chosen = torch.cat([indices["train"], indices["val"]]) if train else indices["test"]
        images, readable = self._decoded(chosen)
        return images[readable].numpy(), self.labeled_files.labels[chosen][readable].numpy()

    def setup(self, stage: str) -> None:
        """Reads the images of the stage (`fit`, `validate`, `test`, `predict`) once; `fit` fits the preprocessing.

        Raises:
            ValueError: If the folder or CSV file can't be used, no image can be read, or the features, which need all
                images, do not fit into memory, or the model has no loss of classes to weight.
        """
        model = self.trainer.lightning_module if self.trainer else None
        if stage == "fit" and self.weighted and model is not None and not hasattr(model, "weighted_loss"):
            raise UserError(
                f"weighted is true, but {type(model).__name__} has no loss of classes to weight; leave it out, or set "
                "balanced instead."
            )
        names = {"fit": ("train", "val"), "validate": ("train", "val"), "test": ("test",)}.get(stage, ())
        for split in names:
            if split not in self.splits:
                self._read_split(split)
        if stage == "fit":
            self.fit_preprocessing()

    def _read_split(self, split: str) -> None:
        indices = self.split_indices[split]
        labels = self.labeled_files.labels[indices]
        if split == "test" and not len(labels):
            raise UserError("There are no test images: there is no test folder, and test_fraction is 0.")
        if isinstance(self.preprocessing, Features) and not self.in_memory:
            raise UserError("Features need all images in memory; set max_memory to a larger number of GiB.")
        images: Any
        if not self.in_memory:
            images = self._files(indices)
        else:
            decoded, readable = self._decoded(indices)
            images, labels = decoded[readable], labels[readable]
            if len(indices) and not len(labels):
                first = self.labeled_files.files[int(indices[0])]
                raise UserError(f"None of the {count(len(indices), 'image')} of {split} can be read, such as {first}.")
        self.splits[split] = images, labels
        if len(labels):
            self._store_features(images, {split: torch.arange(len(labels))})

    def _files(self, indices: Tensor) -> DecodedImages:
        return DecodedImages([self.labeled_files.files[i] for i in indices.tolist()], self.image_shape, self.resize)

    def _decoded(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Decodes images: (N, C, H, W) uint8, and which could be read, (N,) bool."""
        images = self._files(indices)
        return images[:], ~images.unreadable

    def fit_preprocessing(self) -> None:
        """Fits the preprocessing to the training split, unless it is fitted or came from a checkpoint.

        Images that are decoded batch by batch are represented by 2,000 of them, stratified by class.
        """
        if self.preprocessing.fitted:
            return
        self.setup("validate")
        if isinstance(self.splits["train"][0], Tensor):
            super().fit_preprocessing()
            return
        sample = self._sample()
        self.preprocessing.fit(sample)
        self.brightness = float(sample.float().mean()) / 255

    def _sample(self) -> Tensor:
        """Training images that represent all of them, (M, C, H, W) uint8, M ≤ 2,000."""
        images: Any = self.splits["train"][0]
        chosen = stratified_sample(self.splits["train"][1], min(_FITTED_IMAGES, len(images)), self.split.seed)
        sample: Tensor = images[chosen]
        readable = ~images.unreadable[chosen]
        if not readable.any():
            raise UserError(f"None of {count(len(chosen), 'training image')} can be read, such as {images.files[0]}.")
        return sample[readable]

    def train_dataloader(self) -> BatchLoader:
        """Shuffled, augmented batches of the training split: uint8 images (B, C, H, W), views or features, labels."""
        self.fit_preprocessing()
        images: Any
        images, labels = self.splits["train"]
        if isinstance(images, Tensor):
            loader = super().train_dataloader()
            loader.num_workers = self.num_workers if self.augmentation.pipeline else 0
            return loader
        fetch = ReadableBatches(self.augmentation.decoded_batches(images, labels, self._sample), images)
        return self._loader(fetch, len(labels), training=True, num_workers=self.num_workers)

    def _evaluation_loader(self, split: str) -> BatchLoader:
        images: Any
        images, labels = self.splits[split]
        if isinstance(images, Tensor):
            return super()._evaluation_loader(split)
        fetch = ReadableBatches(DecodedBatches(images, labels), images)
        return self._loader(fetch, len(labels), num_workers=self.num_workers)

    def state_dict(self) -> dict[str, Any]:
        """Returns what the base class does, and the names of the classes."""
        return {**super().state_dict(), "class_names": list(self.class_names)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the fitted preprocessing of a checkpoint, and checks that it was trained on the same classes.

        Raises:
            ValueError: If it was not, or the preprocessing is another one, or the state is damaged.
        """
        names = state.get("class_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError("The checkpoint has no class names; use another checkpoint of the run.")
        if tuple(names) != self.class_names:
            raise UserError(
                f"The checkpoint was trained on the classes {listed(names)}, but the images have "
                f"{listed(self.class_names)}; give images of the same classes."
            )
        super().load_state_dict({name: value for name, value in state.items() if name != "class_names"})


def _without(values: Tensor, positions: Tensor) -> Tensor:
    """Values (N,) without those at the positions (M,): (N − M,)."""
    kept = torch.ones(len(values), dtype=torch.bool)
    kept[positions] = False
    return values[kept]
