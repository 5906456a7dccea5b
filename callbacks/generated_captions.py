"""Shows generated captions of the same images after each epoch, and attention maps of some of them.

Source: https://cs231n.github.io/rnn/ (image captioning with attention)
"""

from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.caption_pictures import attention_sheet, caption_sheet, stacked
from callbacks.first_batch import FirstBatch
from callbacks.media import log_table
from callbacks.pictures import as_pixels, show
from common.errors import UserError
from common.ranges import check_range
from common.vocabulary import START
from modules.caption_metrics.rouge import ROUGE
from modules.interpretation.feature_extraction import evaluating


@runtime_checkable
class CaptionGenerator(Protocol):
    """A model that captions images."""

    vocabulary: list[str]  # all words; index 1 starts a caption

    def caption(self, inputs: Tensor) -> list[str]:
        """Returns captions of inputs (B, ...), words separated by spaces."""


@runtime_checkable
class HasAttentionMaps(Protocol):
    """A captioner that attends to grid positions before each word."""

    attends: bool
    max_length: int  # words after which decoding stops

    def attention_maps(self, inputs: Tensor, words: Tensor) -> Tensor:
        """Returns attention weights (B, T, L) for the word after each of words (B, T), which begin with START."""


class GeneratedCaptions(FirstBatch):
    """Shows the first validation images with generated captions and a reference, every `every_n_epochs` and at the end.

    A caption that equals a reference is green. A table has all references and the ROUGE-L of each caption (CIDEr would
    depend on which images are shown). At the end of `fit`, and of `test` for the first test images, attention maps of
    some captions follow, if the model has attention.

    Args:
        num_images: Number of images, ≥ 1.
        num_attention: Number of images with attention maps, ≥ 0.
        every_n_epochs: Number of epochs between two pictures, ≥ 1.

    Raises:
        ValueError: If a value is out of its range or the model writes no captions.
    """

    def __init__(self, num_images: int = 12, num_attention: int = 3, every_n_epochs: int = 1) -> None:
        check_range("num_images", num_images, num_images >= 1, "at least 1")
        check_range("num_attention", num_attention, num_attention >= 0, "at least 0")
        check_range("every_n_epochs", every_n_epochs, every_n_epochs >= 1, "at least 1")
        self.num_images = num_images
        self.num_attention = num_attention
        self.every_n_epochs = every_n_epochs
        self._inputs: Tensor | None = None  # of the first images, (B, ...)
        self._references: list[list[str]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, CaptionGenerator):
            raise UserError(
                f"{type(pl_module).__name__} writes no captions to show; remove callbacks.GeneratedCaptions from "
                "trainer.callbacks."
            )

    def keep(self, batch: Any) -> None:
        inputs, _, references = batch
        self._inputs, self._references = inputs[: self.num_images].clone(), references[: self.num_images]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0 or trainer.should_stop or epoch == trainer.max_epochs:
            self._show_captions(trainer, pl_module, "val", f"validation images after epoch {epoch}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show_attention(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show_captions(trainer, pl_module, "test", "test images")
        self._show_attention(trainer, pl_module, "test")

    def _images(self, trainer: Trainer, split: str) -> Tensor:
        """Returns the images for display, (B, C, H, W) in [0, 1]."""
        assert self._inputs is not None
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        images: Tensor = data.evaluation_images(split, torch.arange(len(self._inputs)))
        return images

    def _show_captions(self, trainer: Trainer, pl_module: LightningModule, split: str, title: str) -> None:
        if self._inputs is None:  # nothing was validated
            return
        assert isinstance(pl_module, CaptionGenerator)
        captions = pl_module.caption(self._inputs)
        images = self._images(trainer, split)
        sheet = caption_sheet(images, captions, self._references, title)
        show(trainer, f"captions/{split}", sheet, caption=title)
        rouge = ROUGE()
        rouge.update(captions, self._references)
        rows = [
            (image, caption, "\n".join(references), score)
            for image, caption, references, score in zip(
                as_pixels(images), captions, self._references, rouge.scores[0].tolist(), strict=True
            )
        ]
        log_table(trainer, f"tables/captions/{split}", ("image", "caption", "references", "rouge_l"), rows)

    @torch.no_grad()
    def _show_attention(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        has_attention = isinstance(pl_module, HasAttentionMaps) and pl_module.attends
        if self._inputs is None or not has_attention or self.num_attention == 0:
            return
        with evaluating(pl_module):
            captions = captions_with_attention(pl_module, self._inputs[: self.num_attention])
        images = self._images(trainer, split)
        sheets = [attention_sheet(image, words, maps) for image, (words, maps) in zip(images, captions, strict=False)]
        show(trainer, f"attention/{split}", stacked(sheets), caption="attention before each word")


def captions_with_attention(model: Any, inputs: Tensor, **search: Any) -> list[tuple[list[str], Tensor]]:
    """Returns for each of the inputs (B, ...) the words of its caption and the attention maps of each word.

    Args:
        model: Captioner with `CaptionGenerator` and `HasAttentionMaps`, in evaluation mode.
        inputs: Preprocessed inputs (B, ...).
        search: Further arguments of `model.caption`.

    Returns:
        For each image T labels, the words of its caption and how it stopped, and attention weights (T, L). The last
        label is "(end)" if END was generated, "(max_length)" if decoding stopped at that number of words.
    """
    max_length = search.get("max_length") or model.max_length
    captions = []
    for single, caption in zip(inputs, model.caption(inputs, **search), strict=True):
        words = caption.split()
        fed = torch.tensor([word_ids(model, caption)], device=inputs.device)  # (1, T)
        stop = "(end)" if len(words) < max_length else "(max_length)"
        captions.append(([*words, stop], model.attention_maps(single[None], fed)[0]))
    return captions


def word_ids(model: CaptionGenerator, caption: str) -> list[int]:
    """Returns the ids of the words that `model` reads when it generates the caption, START first."""
    return [START, *(model.vocabulary.index(word) for word in caption.split())]
