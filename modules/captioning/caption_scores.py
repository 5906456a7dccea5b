"""Scores of generated captions: CIDEr-D, BLEU, ROUGE-L and exact match.

cider, bleu1 … bleu4, rouge_l    `cider.py`, `bleu.py`, `rouge.py` in `modules/caption_metrics`
exact_match                      fraction of the images whose caption equals one of the references word for word
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from common.vocabulary import split_words
from modules.caption_metrics.bleu import BLEU
from modules.caption_metrics.cider import CIDEr
from modules.caption_metrics.rouge import ROUGE


class CaptionScores(nn.Module):
    """Accumulates all scores over the images of all processes."""

    def __init__(self) -> None:
        super().__init__()
        self.bleu, self.rouge_l, self.cider = BLEU(), ROUGE(), CIDEr()
        # In float64, so that the sum over a data set does not depend on how its batches are divided among processes.
        self.exact_match = MeanMetric().set_dtype(torch.float64)

    @property
    def images(self) -> Tensor:
        """Number of images that this process has counted."""
        return self.bleu.images

    def update(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Adds images: the generated caption and the references of each."""
        for metric in (self.bleu, self.rouge_l, self.cider):
            metric.update(captions, references)
        exact = [split_words(text) in map(split_words, texts) for text, texts in zip(captions, references, strict=True)]
        self.exact_match.update(torch.tensor(exact, dtype=torch.float64, device=self.exact_match.device))

    def compute(self) -> dict[str, Tensor]:
        """Returns all scores by name, over all processes, and resets them."""
        metrics: dict[str, Metric] = {"cider": self.cider, "rouge_l": self.rouge_l, "exact_match": self.exact_match}
        scores = {name: metric.compute() for name, metric in metrics.items()}
        scores |= {f"bleu{n}": value for n, value in enumerate(self.bleu.compute(), start=1)}
        for metric in (*metrics.values(), self.bleu):
            metric.reset()
        return scores
