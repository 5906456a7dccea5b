"""Shows what a captioner says about the same images, epoch after epoch, and where it looks as it says each word.

Source: https://cs231n.github.io/rnn/ (image captioning with attention)
"""

from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.caption_pictures import attention_sheet, caption_sheet, stacked
from callbacks.pictures import show
from common.errors import UserError
from modules.interpretation.feature_extraction import evaluating


@runtime_checkable
class WritesCaptions(Protocol):
    """A model that captions images."""

    vocabulary: list[str]  # all words it knows; the word number 1 begins a caption

    def caption(self, inputs: Tensor) -> list[str]:
        """Captions of inputs (B, ...), each its words with spaces between them."""


@runtime_checkable
class ShowsAttention(Protocol):
    """A captioner that weighs the places of a grid before each word."""

    attends: bool

    def attention_maps(self, inputs: Tensor, words: Tensor) -> Tensor:
        """Inputs (B, ...) and words (B, T) from START on: weights of the places for each next word, (B, T, L)."""


class GeneratedCaptions(Callback):
    """The first validation images with what the model says and a reference, every `every_n_epochs` and at the end.

    A caption that is one of the references is green. At the end of `fit`, and of `test` for the first test images, the
    attention maps of some of the captions follow, if the model attends to places.

    Args:
        num_images: how many images, at least 1.
        num_attention: for how many of them to show attention, at least 0.
        every_n_epochs: epochs between two pictures, at least 1.

    Raises:
        ValueError: a value out of the range given above, or a model that writes no captions.
    """

    def __init__(self, num_images: int = 12, num_attention: int = 3, every_n_epochs: int = 1) -> None:
        if num_images < 1 or every_n_epochs < 1 or num_attention < 0:
            raise UserError(
                f"num_images is {num_images}, num_attention {num_attention} and every_n_epochs {every_n_epochs}; give "
                "at least 1, 0 and 1."
            )
        self.num_images = num_images
        self.num_attention = num_attention
        self.every_n_epochs = every_n_epochs
        self._inputs: Tensor | None = None  # of the first images, (B, ...)
        self._references: list[list[str]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, WritesCaptions):
            raise UserError(
                f"{type(pl_module).__name__} writes no captions to show; take callbacks.GeneratedCaptions out of "
                "trainer.callbacks."
            )

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._keep(batch, batch_idx)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._keep(batch, batch_idx)

    def _keep(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
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
        """The images as a person sees them: (B, C, H, W) in [0, 1]."""
        assert self._inputs is not None
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        images: Tensor = data.evaluation_images(split, torch.arange(len(self._inputs)))
        return images

    def _show_captions(self, trainer: Trainer, pl_module: LightningModule, split: str, what: str) -> None:
        if self._inputs is None:  # nothing was validated
            return
        assert isinstance(pl_module, WritesCaptions)
        captions = pl_module.caption(self._inputs)
        sheet = caption_sheet(self._images(trainer, split), captions, self._references, what)
        show(trainer, f"captions/{split}", sheet, caption=what)

    @torch.no_grad()
    def _show_attention(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        shows = isinstance(pl_module, ShowsAttention) and pl_module.attends and self.num_attention > 0
        if self._inputs is None or not shows:
            return
        with evaluating(pl_module):
            found = attended(pl_module, self._inputs[: self.num_attention])
        images = self._images(trainer, split)
        sheets = [attention_sheet(image, *seen) for image, seen in zip(images, found, strict=False)]
        show(trainer, f"attention/{split}", stacked(sheets), caption="where it looks before each word")


def attended(model: Any, inputs: Tensor, **search: Any) -> list[tuple[list[str], Tensor]]:
    """What a model says about each of the inputs (B, ...) and where it looks for each word.

    Args:
        model: one that `WritesCaptions` and `ShowsAttention`, evaluating.
        inputs: preprocessed, (B, ...).
        search: settings of `model.caption`.

    Returns:
        For each image the T words of its caption, the last an empty one for the end, and weights (T, L).
    """
    number = {word: place for place, word in enumerate(model.vocabulary)}
    found = []
    for one, caption in zip(inputs, model.caption(inputs, **search), strict=True):
        said = caption.split()
        words = torch.tensor([[1, *(number[word] for word in said)]], device=inputs.device)
        found.append(([*said, "(end)"], model.attention_maps(one[None], words)[0]))
    return found
