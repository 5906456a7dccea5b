"""The figures of captions that were written: those that the field compares by, and the share that is exactly right.

cider, bleu1 … bleu4, rouge_l    `cider.py`, `bleu.py`, `rouge.py`
exact_match                      share of the images whose caption is, word by word, one of the references
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from common.caption_words import words_of
from modules.caption_metrics.bleu import BLEU
from modules.caption_metrics.cider import CIDEr
from modules.caption_metrics.rouge import ROUGE


class CaptionScores(nn.Module):
    """Counts images, in any share among processes."""

    def __init__(self) -> None:
        super().__init__()
        self.bleu, self.rouge_l, self.cider = BLEU(), ROUGE(), CIDEr()
        # In float64, or the sum over a data set would depend on how its batches were shared among processes.
        self.exact_match = MeanMetric().set_dtype(torch.float64)

    @property
    def images(self) -> Tensor:
        """How many images this process has counted."""
        return self.bleu.images

    def update(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Counts the caption of each image and its references."""
        for metric in (self.bleu, self.rouge_l, self.cider):
            metric.update(captions, references)
        right = [words_of(said) in map(words_of, wanted) for said, wanted in zip(captions, references, strict=True)]
        self.exact_match.update(torch.tensor(right, dtype=torch.float64, device=self.exact_match.device))

    def compute(self) -> dict[str, Tensor]:
        """All figures by name, over all processes; starts counting anew."""
        metrics: dict[str, Metric] = {"cider": self.cider, "rouge_l": self.rouge_l, "exact_match": self.exact_match}
        figures = {name: metric.compute() for name, metric in metrics.items()}
        figures |= {f"bleu{n}": value for n, value in enumerate(self.bleu.compute(), start=1)}
        for metric in (*metrics.values(), self.bleu):
            metric.reset()
        return figures
