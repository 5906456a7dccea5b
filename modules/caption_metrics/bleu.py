"""BLEU-1 to BLEU-4: precision of the captions' n-grams against the references, over the whole corpus.

    pₙ = Σ over images and n-grams of min(count in the caption, largest count in one reference) / Σ count in the caption
    BLEU-n = min(1, exp(1 − r/c)) · (p₁ ⋯ pₙ)^(1/n)

c is the total length of the captions, r that of the references closest in length to their captions (the shorter of two
equally close ones). To avoid division by 0 and log 0, 10⁻¹⁵ is added to numerators and 10⁻⁹ to denominators, as in
coco-caption.

Source: K. Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002.

Shapes: N images, R references of all images, P n-grams of captions and P′ of references, U different ones.
"""

import torch
from torch import Tensor

from modules.caption_metrics.caption_metric import LONGEST, CaptionMetric, Sentences, Tokenizer
from modules.caption_metrics.ptb_tokenizer import tokenize_caption

_TINY, _SMALL = 1e-15, 1e-9
_ENDS = 2**16
_APART = -7046029254386353131  # odd: adding image · _APART makes the n-grams of different images differ


class BLEU(CaptionMetric):
    """BLEU-1 to BLEU-4 of the corpus, (4,) in [0, 1], rather than a mean over images.

    Args:
        tokenize: Splits a text into words; `str.split` for tokenized texts.
    """

    matches: Tensor
    ngrams: Tensor
    length: Tensor
    reference_length: Tensor

    def __init__(self, tokenize: Tokenizer = tokenize_caption) -> None:
        super().__init__(tokenize)
        self.add_state("matches", torch.zeros(LONGEST, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("ngrams", torch.zeros(LONGEST, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("length", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("reference_length", torch.tensor(0), dist_reduce_fx="sum")

    def _count(self, captions: Sentences, references: Sentences, per_image: Tensor) -> None:
        image = torch.arange(len(per_image)).repeat_interleave(per_image)  # of each reference, (R,)
        number = torch.arange(len(image)) - (per_image.cumsum(0) - per_image)[image]  # among those of its image, (R,)
        pairs = zip(captions.ngrams(), references.ngrams(), strict=True)
        for n, ((grams, caption), (others, reference)) in enumerate(pairs):
            grams, others = grams + caption * _APART, others + image[reference] * _APART
            self.matches[n] += _matches(grams, others, number[reference])
            self.ngrams[n] += len(grams)
        self.length += captions.lengths.sum()
        self.reference_length += _closest(captions.lengths, references.lengths, image).sum()

    def _score(self) -> Tensor:
        precisions = (self.matches.double() + _TINY) / (self.ngrams.double() + _SMALL)
        ratio = (self.length.double() + _TINY) / (self.reference_length.double() + _SMALL)
        roots = 1 / torch.arange(1, LONGEST + 1, dtype=torch.float64, device=precisions.device)
        return (1 - 1 / ratio).clamp(max=0).exp() * precisions.cumprod(0) ** roots


def _matches(grams: Tensor, others: Tensor, number: Tensor) -> Tensor:
    """Counts the captions' n-grams that occur in references, each at most as often as in a single reference.

    Args:
        grams: n-grams of the captions, (P,), which differ between images.
        others: n-grams of the references, (P′,).
        number: Index of each of these references among those of its image, (P′,).
    """
    if not len(grams) or not len(others):
        return torch.tensor(0)
    different, counts = grams.unique(return_counts=True)  # (U,)
    # Most n-grams of references are in no caption; a table of the hashes' last bits shows that faster than a search.
    ends = torch.zeros(_ENDS, dtype=torch.bool)
    ends[different % _ENDS] = True
    likely = ends[others % _ENDS].nonzero().flatten()
    others, number, width = others[likely], number[likely], int(number.max()) + 1
    index = torch.searchsorted(different, others).clamp_(max=len(different) - 1)
    known = different[index] == others
    table = torch.bincount(index[known] * width + number[known], minlength=len(different) * width)
    return torch.minimum(counts, table.view(-1, width).amax(1)).sum()


def _closest(caption_lengths: Tensor, lengths: Tensor, image: Tensor) -> Tensor:
    """Length of the reference closest in length to the caption of each image, (N,); the shorter of two."""
    distance = lengths - caption_lengths[image]  # (R,)
    rank = 2 * distance.abs() + (distance > 0)
    best = rank.new_zeros(len(caption_lengths)).scatter_reduce(0, image, rank, "amin", include_self=False)  # (N,)
    return caption_lengths + torch.where(best % 2 == 1, best // 2, -(best // 2))
