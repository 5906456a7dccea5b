"""Shows self-attention by layer and head at the end: word × word of captions, position × position of images.

A word attends to itself and to the words before it; the causal mask hides the rest. Where an image is encoded by
self-attention as well, each position of its grid attends to all positions.

Source: A. Vaswani et al., arXiv 1706.03762, whose figures 3 to 5 are such maps.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.attention_pictures import image_attention_sheet, word_attention_sheet
from callbacks.first_batch import FirstBatch
from callbacks.generated_captions import CaptionGenerator, word_ids
from callbacks.pictures import show
from common.errors import UserError
from common.ranges import check_range
from modules.interpretation.feature_extraction import evaluating


@runtime_checkable
class HasSelfAttentionMaps(CaptionGenerator, Protocol):
    """A captioner with layers of self-attention."""

    def self_attention_maps(self, inputs: Tensor, words: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns weights of each encoder layer (B, H, L, L) and decoder layer (B, H, T, T) for words (B, T)."""


class SelfAttentionMaps(FirstBatch):
    """Draws self-attention for the first validation images after `fit`, for the first test images after `test`.

    The words are those of the generated caption. The pictures are `self_attention/val/1` and so on, and
    `encoder_attention/val/1` if the model encodes images by self-attention on a square grid.

    Args:
        num_images: Number of images, ≥ 1.

    Raises:
        ValueError: If num_images is below 1 or the model has no self-attention.
    """

    def __init__(self, num_images: int = 2) -> None:
        check_range("num_images", num_images, num_images >= 1, "at least 1")
        self.num_images = num_images
        self._inputs: Tensor | None = None  # of the first images, (B, ...)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, HasSelfAttentionMaps):
            raise UserError(
                f"{type(pl_module).__name__} has no self-attention to show; remove callbacks.SelfAttentionMaps from "
                "trainer.callbacks."
            )

    def keep(self, batch: Any) -> None:
        self._inputs = batch[0][: self.num_images].clone()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "test")

    @torch.no_grad()
    def _show(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        if self._inputs is None:  # nothing was validated
            return
        assert isinstance(pl_module, HasSelfAttentionMaps)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        images = data.evaluation_images(split, torch.arange(len(self._inputs)))
        captions = pl_module.caption(self._inputs)
        for number, (inputs, image, caption) in enumerate(zip(self._inputs, images, captions, strict=True), start=1):
            ids = torch.tensor([word_ids(pl_module, caption)], device=inputs.device)
            with evaluating(pl_module):
                encoder, decoder = pl_module.self_attention_maps(inputs[None], ids)
            sheet = word_attention_sheet(["(start)", *caption.split()], [weights[0] for weights in decoder])
            show(trainer, f"self_attention/{split}/{number}", sheet, caption=caption)
            if encoder and int(encoder[0].shape[2] ** 0.5) ** 2 == encoder[0].shape[2]:
                sheet = image_attention_sheet(image, [weights[0] for weights in encoder])
                show(trainer, f"encoder_attention/{split}/{number}", sheet, caption=caption)
