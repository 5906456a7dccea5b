"""The base class of data sets of images with captions: vocabulary, splits by image, batches of about equal length.

A data set is a subclass that defines `input_shape`, reads the captions in `read` and returns the model's inputs in
`inputs`. Captions are batched as ids of the `vocabulary`:

    training            (inputs, tokens)               one sample a caption, grouped by length
    validation, test    (inputs, tokens, references)   one sample an image; references are its captions as text
    predict             (inputs, indices)              the files of `given_images`

Validation images are held out from the training images by image rather than by caption; otherwise captions of one image
would be in both splits. The vocabulary contains words of the training captions only.

Shapes: M images of a split, B samples of a batch, T longest caption of a batch in words, END included.
"""

import os
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zlib import crc32

import lightning as L
import torch
from torch import Tensor

from common.errors import UserError
from common.messages.counting import count_kind
from common.ranges import check_range
from common.vocabulary import Vocabulary, build_vocabulary, split_words
from datamodules.captions.caption_batches import EvaluationBatches, ImageFileBatches, InputSource, TrainingBatches
from datamodules.files.given_images import GivenImages, find_images
from datamodules.input_dtype import to_input_dtype
from datamodules.loader import Batch, BatchLoader
from datamodules.splits import split_by_image

Split = Literal["train", "val", "test"]


class OfficialCaptions(NamedTuple):
    """The official training or test images of a data set."""

    captions: list[list[str]]  # of each image: at least one, each with at least one word
    held_out: list[int] | None = None  # images of the validation split, if the data set defines one


class CaptionDataModule(L.LightningDataModule, ABC):
    """A data set of images with captions.

    Args:
        batch_size: Captions per training step and process, images per evaluation step, ≥ 1.
        val_fraction: Fraction of the training images held out for validation, in [0, 1), if the data set has no
            validation images of its own.
        subset: Number of training images to use, ≥ 1; None for all.
        captions_per_image: Number of training captions to use of each image, the first ones, ≥ 1; None for all.
        min_count: How often a word must occur in the training captions to be in the vocabulary, ≥ 1.
        max_length: Length of the longest training caption in words, ≥ 1. Longer ones are left out, and counted in
            `left_out`; references are used at any length.
        num_workers: Number of processes that fetch batches, ≥ 0; useful if images are decoded.
        split_seed: Seed that draws the validation images and the subset, independent of the training seed.
        images: Image files or folders to caption in `predict`.
    """

    def __init__(
        self,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        subset: int | None = None,
        captions_per_image: int | None = None,
        min_count: int = 1,
        max_length: int = 20,
        num_workers: int = 0,
        split_seed: int = 0,
        images: list[str] | None = None,
    ) -> None:
        super().__init__()
        check_range("batch_size", batch_size, batch_size >= 1, "at least 1")
        check_range("val_fraction", val_fraction, 0 <= val_fraction < 1, "in [0, 1)")
        check_range("subset", subset, subset is None or subset >= 1, "at least 1, or left out for all images")
        all_or_some = captions_per_image is None or captions_per_image >= 1
        check_range("captions_per_image", captions_per_image, all_or_some, "at least 1, or left out for all")
        check_range("min_count", min_count, min_count >= 1, "at least 1")
        check_range("max_length", max_length, max_length >= 1, "at least 1 word")
        check_range("num_workers", num_workers, num_workers >= 0, "at least 0")
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.subset = subset
        self.captions_per_image = captions_per_image
        self.min_count = min_count
        self.max_length = max_length
        self.num_workers = num_workers
        self.split_seed = split_seed
        self.images = images
        self.given_images = GivenImages([])  # those of `predict`
        self.left_out: Counter[str] = Counter()  # number of samples left out of the data, by reason
        self._read: dict[bool, OfficialCaptions] = {}
        self._rows: dict[str, Tensor] = {}  # of each split: indices of its images among those that `read` returns

    @property
    def image_files(self) -> list[Path]:
        """Image files of `predict`, once its loader exists."""
        return self.given_images.files

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the model's input for one image: pixels (C, H, W), grid features (L, D) or pooled features (D,)."""

    @abstractmethod
    def read(self, train: bool) -> OfficialCaptions:
        """Reads the captions of the official training or test images, without reading pixels."""

    @abstractmethod
    def inputs(self, split: Split, training: bool) -> InputSource:
        """Returns the source of the inputs of a split's images, augmented if they are for training."""

    @abstractmethod
    def evaluation_images(self, split: Split, indices: Tensor) -> Tensor:
        """Returns images of a split for pictures by their indices in it, (M,): pixels in [0, 1], (M, 3, H, W)."""

    def preprocess(self, inputs: Tensor) -> Tensor:
        """Converts stored inputs to the model's inputs: uint8 pixels x to 2x/255 − 1, features to float32.

        It runs on the device, so that a quarter or half of the bytes are copied to it.
        """
        return inputs * (2 / 255) - 1 if inputs.dtype == torch.uint8 else inputs.float()

    def predict_inputs(self) -> Any:
        """Returns the source of batches of the user's image files."""
        channels, height, width = self.input_shape
        return ImageFileBatches(self.given_images, (channels, height, width))

    @cached_property
    def vocabulary(self) -> list[str]:
        """The words by id, built from the training captions on first access, even before `setup`.

        Raises:
            ValueError: If caption files are missing or damaged.
        """
        return build_vocabulary((text for texts in self.captions("train") for text in texts), self.min_count)

    def captions(self, split: Split) -> list[list[str]]:
        """Returns the captions of each image of a split."""
        captions = self._part(split).captions
        return [captions[row] for row in self.rows(split).tolist()]

    def references(self, split: Split, indices: Tensor) -> list[list[str]]:
        """Returns the captions of images of a split by their indices in it, (M,): M lists."""
        captions, rows = self._part(split).captions, self.rows(split)
        return [captions[row] for row in rows[indices].tolist()]

    def _part(self, split: Split) -> OfficialCaptions:
        train = split != "test"
        if train not in self._read:
            self._read[train] = self.read(train)
        return self._read[train]

    def rows(self, split: Split) -> Tensor:
        """Returns the indices of a split's images among those that `read` returns, in rising order: (M,) int64."""
        if split not in self._rows:
            captions, held_out = self._part(split)
            if split == "test":
                self._rows["test"] = torch.arange(len(captions))
            else:
                self._rows["train"], self._rows["val"] = split_by_image(
                    len(captions), held_out, self.val_fraction, self.subset, self.split_seed
                )
        return self._rows[split]

    def identity(self) -> dict[str, int | str]:
        """Returns the numbers of training and validation images, and a checksum of both splits and the vocabulary."""
        checksum = crc32("\n".join(self.vocabulary).encode())
        for name in ("train", "val"):
            checksum = crc32(self.rows(name).numpy().tobytes(), checksum)
        sizes = {f"{name}_images": len(self.rows(name)) for name in ("train", "val")}
        return {**sizes, "checksum": f"{checksum:08x}"}

    def state_dict(self) -> dict[str, Any]:
        """Returns the vocabulary, for the checkpoint."""
        return {"vocabulary": self.vocabulary}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Checks that the data's vocabulary is that of the checkpoint.

        Raises:
            ValueError: If the vocabularies differ, so that each id would stand for another word.
        """
        saved = list(state["vocabulary"])
        if saved != self.vocabulary:
            differing = len(set(saved) ^ set(self.vocabulary))
            difference = f"{differing:,} of them in only one of the two" if differing else "the same in another order"
            raise UserError(
                f"The checkpoint was trained with a vocabulary of {len(saved):,} words, but the data has "
                f"{len(self.vocabulary):,}, {difference}; use the training captions and the settings min_count, "
                "subset, val_fraction and split_seed that it was trained with."
            )

    def setup(self, stage: str) -> None:
        """Reads the data of a stage (`fit`, `validate`, `test`, `predict`) once.

        Raises:
            ValueError: If data files are missing or damaged, or the subset is larger than the training split.
        """
        if stage != "predict":
            self.rows("test" if stage == "test" else "train")
        if stage == "fit":
            self._samples  # noqa: B018  # so that the warning about captions left out comes before training

    @cached_property
    def _samples(self) -> tuple[Tensor, Tensor, Tensor]:
        """The N training captions: indices of their images (N,), tokens (N, L + 2), lengths with END in words (N,)."""
        images, texts, lengths = [], [], []
        for image, captions in enumerate(self.captions("train")):
            for text in captions[: self.captions_per_image]:
                length = len(split_words(text))
                if length > self.max_length:
                    self.left_out[f"training captions longer than {self.max_length} words"] += 1
                else:
                    images.append(image)
                    texts.append(text)
                    lengths.append(length + 1)
        if not texts:
            raise UserError(
                f"max_length is {self.max_length}, but every training caption is longer; increase max_length."
            )
        if self.left_out and (self.trainer is None or self.trainer.is_global_zero):
            counts = ", ".join(count_kind(number, kind) for kind, number in sorted(self.left_out.items()))
            warnings.warn(f"{type(self).__name__} left out: {counts}.", stacklevel=3)
        tokens = Vocabulary(self.vocabulary).encode(texts, self.max_length)
        return torch.tensor(images), tokens, torch.tensor(lengths)

    def train_dataloader(self) -> BatchLoader:
        """Shuffled batches of captions of about equal length: inputs (B, …), tokens (B, T + 1)."""
        self.setup("fit")
        images, tokens, lengths = self._samples
        fetch = TrainingBatches(self.inputs("train", training=True), images, tokens)
        return self._loader(fetch, len(lengths), self.num_workers, lengths)

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Batches of the validation images in order; an empty list if no image is held out."""
        self.setup("validate")
        return self.evaluation_dataloader("val") if len(self.rows("val")) else []

    def test_dataloader(self) -> BatchLoader:
        """Batches of the test images in order."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: Split) -> BatchLoader:
        """Batches of the images of any split in order, unaugmented: inputs (B, …), tokens (B, T + 1), references."""
        self.setup("test" if split == "test" else "validate")
        captions = self.captions(split)
        tokens = Vocabulary(self.vocabulary).encode([texts[0] for texts in captions], self.max_length)
        fetch = EvaluationBatches(self.inputs(split, training=False), tokens, captions)
        return self._loader(fetch, len(captions), self.num_workers)

    def evaluation_inputs(self, split: Split, indices: Tensor) -> Tensor:
        """Returns the preprocessed inputs of images of a split by their indices in it, (M,): (M, *input_shape)."""
        return self.preprocess(self.inputs(split, training=False)(Batch(indices, 0, len(indices), 0))[0])

    def predict_dataloader(self) -> BatchLoader:
        """Batches of the image files in `images`: inputs (B, …) and their indices in `given_images.files` (B,).

        A file that can't be read is black in its batch and noted in `given_images`.

        Raises:
            ValueError: If no images are given, or a path does not exist.
        """
        self.given_images = find_images(self.images or [])
        return self._loader(self.predict_inputs(), len(self.given_images.files))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Preprocesses on the device; a tensor alone is a model's `example_input_array` and stays as it is."""
        if isinstance(batch, Tensor):
            return to_input_dtype(self.trainer, batch)
        return to_input_dtype(self.trainer, self.preprocess(batch[0])), *batch[1:]

    def _loader(self, fetch: Any, num_samples: int, num_workers: int = 0, lengths: Tensor | None = None) -> BatchLoader:
        """Returns a loader of training batches if lengths are given, otherwise of all samples in order."""
        return BatchLoader(
            fetch,
            num_samples,
            self.batch_size,
            training=lengths is not None,
            seed=int(os.environ.get("PL_GLOBAL_SEED", "0")),  # set by lightning's seed_everything
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            num_workers=num_workers,
            lengths=lengths,
            same_batches=bool(getattr(self.trainer, "overfit_batches", 0)),
        )
