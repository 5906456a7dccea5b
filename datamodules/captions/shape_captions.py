"""Synthetic captioning data: drawn scenes of two shapes with captions from a grammar, generated without a download.

    caption   = shape relation shape           a large red circle left of a small blue square
    shape     = "a" size color kind
    relation  = "left of" | "right of" | "above" | "below"

Two sentences of the grammar are true of a scene, one beginning with each shape. A caption is an exact match if it is
one of the two. A random sentence is right with probability of about 1 in 10,000, so exact match suffices as a metric.

    python -m pipelines.train fit --config caption_lstm --data ShapeCaptions

Shapes: N scenes, M of a split.
"""

from typing import Any

import torch
from torch import Tensor

from common.ranges import check_range
from datamodules.captions.caption_batches import InputSource, StoredInputs
from datamodules.captions.caption_data_module import CaptionDataModule, OfficialCaptions, Split
from datamodules.captions.shape_scenes import COLORS, KINDS, SIDE, SIZES, Layout, draw_layout, paint_scenes


class ShapeCaptions(CaptionDataModule):
    """Drawn scenes of two shapes with captions from a grammar; see `CaptionDataModule` for the other settings.

    Args:
        num_train: Number of training scenes, validation split included, ≥ 10.
        num_test: Number of test scenes, ≥ 10.
        draw_seed: Seed of the scenes, ≥ 0.
        max_length: Length of the longest training caption in words, ≥ 1; the grammar's have 9 or 10.
        captions_per_image: 1 to train only on the sentence that begins with the left or upper shape, so that the target
            is unique; None to train on both sentences.

    Raises:
        ValueError: If there are fewer than 10 scenes, or another setting is outside its interval.
    """

    input_shape = (3, SIDE, SIDE)

    def __init__(
        self,
        num_train: int = 20_000,
        num_test: int = 2_000,
        draw_seed: int = 0,
        max_length: int = 10,
        captions_per_image: int | None = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_length=max_length, captions_per_image=captions_per_image, **kwargs)
        check_range("num_train", num_train, num_train >= 10, "at least 10 scenes")
        check_range("num_test", num_test, num_test >= 10, "at least 10 scenes")
        check_range("draw_seed", draw_seed, draw_seed >= 0, "at least 0")
        self.official_sizes = (num_train, num_test)
        self.draw_seed = draw_seed
        self._painted: dict[bool, Tensor] = {}  # images (N, 3, S, S) uint8 of the training and the test scenes

    def layout(self, train: bool) -> Layout:
        """Returns the layout of the training or the test scenes."""
        return draw_layout(self.official_sizes[0 if train else 1], self._seed(train))

    def _seed(self, train: bool) -> int:
        # Even and odd seeds, so that training and test scenes differ for every draw_seed.
        return 2 * self.draw_seed + (not train)

    def read(self, train: bool) -> OfficialCaptions:
        return OfficialCaptions(sentences(self.layout(train)))

    def setup(self, stage: str) -> None:
        super().setup(stage)
        train = stage != "test"
        if stage != "predict" and train not in self._painted:
            scenes = paint_scenes(self.layout(train), self._seed(train))
            self._painted[train] = torch.from_numpy(scenes.images)

    def inputs(self, split: Split, training: bool) -> InputSource:
        return StoredInputs(self._images(split))

    def evaluation_images(self, split: Split, indices: Tensor) -> Tensor:
        return self._images(split)[indices].float() / 255

    def _images(self, split: Split) -> Tensor:
        self.setup("test" if split == "test" else "validate")
        return self._painted[split != "test"][self.rows(split)]


def sentences(layout: Layout) -> list[list[str]]:
    """Returns the two true sentences of each of N scenes, first the one that begins with the left or upper shape."""
    colors = list(COLORS)
    both = []
    columns = (layout.sizes, layout.colors, layout.kinds, layout.upright)
    for size, color, kind, upright in zip(*(column.tolist() for column in columns), strict=True):
        first, second = (f"a {SIZES[size[i]]} {colors[color[i]]} {KINDS[kind[i]]}" for i in range(2))
        relation, inverse = ("above", "below") if upright else ("left of", "right of")
        both.append([f"{first} {relation} {second}", f"{second} {inverse} {first}"])
    return both
