"""ROUGE-L: length of the longest common subsequence of a caption and its references.

    P = max over references of L / |caption|,    R = max over references of L / |reference|
    F = (1 + β²) P R / (R + β² P),    β = 1.2                                   (0 if nothing is in common)
    ROUGE-L = mean of F over images

L is the largest number of words that occur in both in the same order, not necessarily adjacent:

    L(i, j) = L(i−1, j−1) + 1 if aᵢ = bⱼ, else max(L(i−1, j), L(i, j−1))

The two maxima are independent, so P and R may belong to different references, as in coco-caption.

Source: C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", ACL 2004 workshop.

Shapes: N images, R references of all images, P pairs of sentences, T words in the longest sentence.
"""

from itertools import pairwise
from math import fsum

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from modules.caption_metrics.caption_metric import CaptionMetric, Sentences, Tokenizer
from modules.caption_metrics.ptb_tokenizer import tokenize_caption

_BETA = 1.2
_CHUNK = 16_384  # pairs whose tables are computed at once: they fit into the cache


class ROUGE(CaptionMetric):
    """ROUGE-L as a metric, a scalar in [0, 1].

    Args:
        tokenize: Splits a text into words; `str.split` for tokenized texts.
    """

    scores: list[Tensor]

    def __init__(self, tokenize: Tokenizer = tokenize_caption) -> None:
        super().__init__(tokenize)
        self.add_state("scores", [], dist_reduce_fx="cat")

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the states, so that a rank without images contributes an empty tensor of the right dtype."""
        return torch.float64

    def _count(self, captions: Sentences, references: Sentences, per_image: Tensor) -> None:
        image = torch.arange(len(per_image)).repeat_interleave(per_image)  # of each reference, (R,)
        lengths = captions.lengths[image]
        common = _common(_padded(captions, -1), _padded(references, -2), image, references.lengths)
        common += (lengths == 0) & (references.lengths == 0)  # in coco-caption an empty text is one empty word
        precision, recall = (
            torch.zeros(len(per_image), dtype=torch.float64).scatter_reduce(0, image, common / length, "amax")
            for length in (lengths.clamp(min=1).double(), references.lengths.clamp(min=1).double())
        )
        f = (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)
        self.scores.append(f.nan_to_num().to(self.device))

    def _score(self) -> Tensor:
        scores = dim_zero_cat(self.scores).tolist()
        return torch.tensor(fsum(scores) / len(scores), dtype=torch.float64)  # fsum: the same in any order


def common_subsequences(a: Tensor, b: Tensor) -> Tensor:
    """L of pairs of sentences, (P,) int16: words (P, m) and (P, n), padded with numbers that match nothing."""
    a, b = a.mT.contiguous(), b.mT.contiguous()
    table = torch.zeros(len(a) + 1, a.shape[1], dtype=torch.int16)  # L(·, j − 1), of all pairs
    for word in b:  # (P,)
        longest = torch.maximum(table[1:], table[:-1] + (a == word))
        for shorter, longer in pairwise(longest):
            torch.maximum(shorter, longer, out=longer)
        table[1:] = longest
    return table[-1]


def _common(captions: Tensor, references: Tensor, image: Tensor, lengths: Tensor) -> Tensor:
    """L of each reference and its image's caption, (R,), in chunks of similar lengths, which need little padding."""
    common = torch.empty(len(image), dtype=torch.int64)
    for pairs in lengths.argsort().split(_CHUNK):
        longest = int(lengths[pairs[-1]])
        common[pairs] = common_subsequences(captions[image[pairs]], references[pairs, :longest]).long()
    return common


def _padded(sentences: Sentences, padding: int) -> Tensor:
    """One sentence a row, padded at its end: (S, T)."""
    lengths = sentences.lengths
    rows = torch.full((len(lengths), int(lengths.max()) if len(lengths) else 0), padding)
    rows[torch.arange(rows.shape[1]) < lengths[:, None]] = sentences.words
    return rows
