"""COCO captions: 118,287 training and 5,000 validation photographs with five captions each, or Karpathy's splits.

Source: T.-Y. Lin et al., arXiv 1405.0312; X. Chen et al., arXiv 1504.00325; https://cocodataset.org. The files are
those of the official archives, or any part of them:

    root/coco/annotations/captions_train2017.json, captions_val2017.json
    root/coco/train2017/, val2017/                   2014 likewise, with year 2014
    root/coco/dataset_coco.json                      Karpathy's splits, used if it is there

With Karpathy's file, train and restval are the training split, val and test the others, for the images of either year.
Without it, validation images are held out from the training images, and the official validation images are the test
split, since the official test set has no public captions.

With `backbone`, a frozen network computes the features of each image once (`image_features.py`), and training reads
only these. Without it, the images are decoded and augmented for every batch, and the model has its own network.

Most of the time of computing features goes into decoding: set num_workers to the number of cores the first time.

    python -m pipelines.data download coco
    python -m pipelines.train fit --config caption_transformer --data COCOCaptions --data.backbone resnet50 \\
        --data.pretrained hub

Shapes: M images of a split, S side of an image in pixels, L positions of a grid, D features.
"""

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from common.commands import command
from common.errors import UserError
from common.messages.counting import count
from common.ranges import check_range
from common.user_paths import user_path
from datamodules.captions.caption_batches import InputSource
from datamodules.captions.caption_data_module import CaptionDataModule, OfficialCaptions, Split
from datamodules.captions.coco_files import Bad, BadSamples, CocoImage, ImageId, read_captions, read_karpathy
from datamodules.captions.frozen_backbone import FeatureForm, FrozenBackbone
from datamodules.captions.image_features import FeaturesOfFiles, StoredFeatures, store_features
from datamodules.files.data_files import DataFileError
from datamodules.files.image_folder import ImageFolder
from datamodules.images.augmentation import Albumentations
from datamodules.images.image_files import ImageFileInputs, read_square

Normalization = Literal["imagenet", "scale"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation, as for most of timm's models


class COCOCaptions(CaptionDataModule):
    """COCO's photographs with five captions each; see `CaptionDataModule` for the other settings.

    Args:
        root: Folder that contains the folder coco. Only the features in coco/features are ever written there.
        year: Year of the images and annotation files, 2017 or 2014.
        backbone: Name of a timm model that computes features of the images; with None, the model gets the images.
        pretrained: Weights of the backbone: hub for those that timm names, or a file of weights; None leaves them
            random, which is for tests.
        features: Form of the features, grid (L, D), for attention, or pooled (D,).
        image_size: Side S of the images without a backbone, in pixels, ≥ 8.
        decode_size: Side of the images that albumentations gets, ≥ 8, such as 256 for a RandomCrop to 224; None for S.
        normalization: Normalization of the images without a backbone: imagenet for ImageNet's mean and standard
            deviation, or scale for the range [−1, 1].
        albumentations: Augmentation of the training images without a backbone, such as [{HorizontalFlip: {p: 0.5}}].
        bad: Whether to skip (and count) or stop at images that are missing, unreadable or without a caption, and at
            captions that are empty or of no listed image.
        min_count: How often a word must occur in the training captions to be in the vocabulary, ≥ 1.

    Raises:
        ValueError: If a setting is outside its interval, or two settings exclude each other.
    """

    def __init__(
        self,
        root: str = "data",
        year: int = 2017,
        backbone: str | None = None,
        pretrained: str | None = None,
        features: FeatureForm = "grid",
        image_size: int = 224,
        decode_size: int | None = None,
        normalization: Normalization = "imagenet",
        albumentations: list[str | dict[str, Any]] | None = None,
        bad: Bad = "skip",
        min_count: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(min_count=min_count, **kwargs)
        check_range("year", year, year in (2014, 2017), "2014 or 2017")
        check_range("features", features, features in get_args(FeatureForm), "grid or pooled")
        check_range("image_size", image_size, image_size >= 8, "at least 8 pixels")
        check_range("decode_size", decode_size, decode_size is None or decode_size >= 8, "at least 8 pixels")
        choices = get_args(Normalization)
        check_range("normalization", normalization, normalization in choices, "imagenet or scale")
        if backbone is None and pretrained is not None:
            raise UserError(
                f"pretrained is {pretrained!r} without a backbone; set backbone to the model of the weights."
            )
        if backbone is not None and albumentations:
            raise UserError(
                f"albumentations is set with backbone {backbone}, whose features are computed once; leave one out."
            )
        self.folder = user_path(root) / "coco"
        self.year = year
        self.backbone = FrozenBackbone(backbone, pretrained, features) if backbone is not None else None
        self.image_size = image_size
        self.decode_size = decode_size
        self.normalization = normalization
        self.albumentations = Albumentations(albumentations) if albumentations else None
        self.bad = BadSamples(bad, self.left_out)
        self._images: dict[bool, dict[ImageId, CocoImage]] = {}  # of the training and the test images, by id
        self._files: dict[bool, list[Path]] = {}
        self._inputs: list[ImageFileInputs] = []
        self._features: dict[Split, StoredFeatures] = {}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3, self.image_size, self.image_size) if self.backbone is None else self.backbone.shape

    def read(self, train: bool) -> OfficialCaptions:
        images = self._read_images(train)
        if not train and not self._karpathy.is_file():
            self._part("train")
            if shared := self._images[True].keys() & images.keys():
                raise DataFileError(
                    f"The image {sorted(shared, key=str)[0]} is in both captions_train{self.year}.json and "
                    f"captions_val{self.year}.json, so it would be trained and tested on; remove it from one of them."
                )
        self._images[train] = images
        held_out = None
        if self._karpathy.is_file():
            held_out = [i for i, image in enumerate(images.values()) if image.split == "val"]
        return OfficialCaptions([image.captions for image in images.values()], held_out)

    @property
    def _data_set(self) -> str:
        """Name by which `pipelines.data` knows the files of this year."""
        return "coco" if self.year == 2017 else f"coco{self.year}"

    @property
    def _karpathy(self) -> Path:
        return self.folder / "dataset_coco.json"

    @cached_property
    def _karpathy_images(self) -> dict[ImageId, CocoImage]:
        return read_karpathy(self._karpathy, self.bad)

    def _read_images(self, train: bool) -> dict[ImageId, CocoImage]:
        """Returns the official training or test images that have captions and a file; stores the files' paths."""
        if self._karpathy.is_file():
            listed = {n: image for n, image in self._karpathy_images.items() if (image.split == "test") != train}
            folders = [f"train{self.year}", f"val{self.year}"]
        else:
            part = f"{'train' if train else 'val'}{self.year}"
            listed, folders = read_captions(self.folder / "annotations" / f"captions_{part}.json", self.bad), [part]
        present = {folder: ImageFolder(self.folder / folder) for folder in folders}
        images, files = {}, []
        for number, image in listed.items():
            # Karpathy's file has the names of 2014; in 2017 the same photographs are named by their id alone.
            official = image.folder and self.year == 2017 and isinstance(number, int)
            name = f"{number:012d}.jpg" if official else image.file_name
            file = next((file for folder in folders if (file := present[folder].find(name))), None)
            if file is None:
                self.bad.report("images whose file is missing", f"{name} is not in {self.folder / folders[0]}")
            else:
                images[number] = image
                files.append(file)
        if not images:
            raise DataFileError(
                f"None of the {count(len(listed), 'image')} with captions is in {self.folder / folders[0]}; put "
                "COCO's images "
                f"there, or get them with {command('data', 'download', self._data_set)}."
            )
        self._files[train] = files
        return images

    def files(self, split: Split) -> list[Path]:
        """Returns the image files of a split."""
        rows = self.rows(split).tolist()
        return [self._files[split != "test"][row] for row in rows]

    def setup(self, stage: str) -> None:
        if self.backbone is not None and stage != "predict":
            self._compute_features("test" if stage == "test" else "train")
        super().setup(stage)

    def _compute_features(self, split: Split) -> None:
        """Finds or computes the features of the test images, or of the training and validation images together."""
        if split in self._features or self.backbone is None:
            return
        self.vocabulary  # noqa: B018  # built before unreadable images are left out, so that their captions always count
        splits: list[Split] = ["test"] if split == "test" else ["train", "val"]
        used = torch.cat([self.rows(name) for name in splits]).sort().values  # one order, whatever the split
        files = [self._files[split != "test"][row] for row in used.tolist()]
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        stored, readable = store_features(
            self.backbone, files, self.folder / "features", self.bad, device, self.num_workers
        )
        for name in splits:
            indices = torch.searchsorted(used, self.rows(name))
            self._rows[name] = self.rows(name)[readable[indices]]
            self._features[name] = StoredFeatures(stored, indices[readable[indices]])

    def inputs(self, split: Split, training: bool) -> InputSource:
        if self.backbone is not None:
            self._compute_features(split)
            return self._features[split]
        pipeline, decode_size = (self.albumentations, self.decode_size) if training else (None, None)
        skip = self.bad.policy == "skip"
        self._inputs.append(ImageFileInputs(self.files(split), self.image_size, skip, pipeline, decode_size))
        return self._inputs[-1]

    @property
    def num_unreadable(self) -> int:
        """Number of unreadable images among those fetched so far, all of them skipped."""
        return sum(int(inputs.unreadable.sum()) for inputs in self._inputs) + self.left_out["images that can't be read"]

    @property
    def unreadable_files(self) -> list[Path]:
        """Files that could not be read among those fetched so far, without a backbone."""
        found = [source.files[i] for source in self._inputs for i in source.unreadable.nonzero().flatten().tolist()]
        return list(dict.fromkeys(found))

    def teardown(self, stage: str) -> None:
        """Warns at the end of a run if images were skipped because they could not be decoded."""
        if self.backbone is None and self.num_unreadable:
            warnings.warn(f"{count(self.num_unreadable, 'image')} could not be read and were skipped.", stacklevel=2)

    def predict_inputs(self) -> Any:
        return super().predict_inputs() if self.backbone is None else FeaturesOfFiles(self.given_images, self.backbone)

    def evaluation_images(self, split: Split, indices: Tensor) -> Tensor:
        # Batches leave out unreadable images, so the first images are the first readable ones.
        unreadable = set(self.unreadable_files)
        files = [file for file in self.files(split) if file not in unreadable]
        pixels = [read_square(files[i], self.image_size) for i in indices.tolist()]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255

    def preprocess(self, inputs: Tensor) -> Tensor:
        if inputs.dtype != torch.uint8 or self.normalization == "scale":
            return super().preprocess(inputs)
        mean, std = (torch.tensor(values, device=inputs.device).reshape(3, 1, 1) for values in _IMAGENET)
        return (inputs / 255 - mean) / std
