"""BLEU-1 to BLEU-4: how many of a caption's n-grams stand in one of the image's references, over the whole corpus.

    pₙ = Σ over images and n-grams of min(count in the caption, largest count in one reference) / Σ count in the caption
    BLEU-n = min(1, exp(1 − r/c)) · (p₁ ⋯ pₙ)^(1/n)

c is the length of all captions, r that of the references closest in length to their captions (of two equally close
the shorter). So that nothing is divided by 0 or has a logarithm of 0, 10⁻¹⁵ is added to counts above and 10⁻⁹ to those
below a line, as coco-caption does.

Source: K. Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002.

Shapes: N images, R references of all images, P n-grams, U different ones.
"""

import torch
from torch import Tensor

from modules.caption_metrics.caption_metric import LONGEST, CaptionMetric, Sentences, Tokenizer
from modules.caption_metrics.ptb_tokenizer import ptb_tokenize

_TINY, _SMALL = 1e-15, 1e-9
_ENDS = 2**16
_APART = -7046029254386353131  # an odd number: image · _APART sets the n-grams of images apart


class BLEU(CaptionMetric):
    """BLEU-1 to BLEU-4, (4,) in [0, 1]: of the corpus, not a mean over images.

    Args:
        tokenize: cuts a text into words; `str.split` for texts that are tokenized already.
    """

    matches: Tensor
    ngrams: Tensor
    length: Tensor
    reference_length: Tensor

    def __init__(self, tokenize: Tokenizer = ptb_tokenize) -> None:
        super().__init__(tokenize)
        self.add_state("matches", torch.zeros(LONGEST, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("ngrams", torch.zeros(LONGEST, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("length", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("reference_length", torch.tensor(0), dist_reduce_fx="sum")

    def _count(self, captions: Sentences, references: Sentences, per_image: Tensor) -> None:
        image = torch.arange(len(per_image)).repeat_interleave(per_image)  # of each reference, (R,)
        number = torch.arange(len(image)) - (per_image.cumsum(0) - per_image)[image]  # among its image's, (R,)
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
    """Captions' n-grams that references have too, each at most as often as one reference has it.

    Args:
        grams: n-grams of the captions, (P,), which differ between images.
        others: n-grams of the references, (P',).
        number: in which of its image's references each of these is, (P',).
    """
    if not len(grams) or not len(others):
        return torch.tensor(0)
    different, counts = grams.unique(return_counts=True)  # (U,)
    # Most n-grams of references are in no caption; a table of hashes' last bits shows that faster than a search.
    ends = torch.zeros(_ENDS, dtype=torch.bool)
    ends[different % _ENDS] = True
    likely = ends[others % _ENDS].nonzero().flatten()
    others, number, width = others[likely], number[likely], int(number.max()) + 1
    place = torch.searchsorted(different, others).clamp_(max=len(different) - 1)
    known = different[place] == others
    table = torch.bincount(place[known] * width + number[known], minlength=len(different) * width)
    return torch.minimum(counts, table.view(-1, width).amax(1)).sum()


def _closest(wanted: Tensor, lengths: Tensor, image: Tensor) -> Tensor:
    """The length of each image's reference that is closest to its caption's, (N,); of two the shorter."""
    distance = lengths - wanted[image]  # (R,)
    rank = 2 * distance.abs() + (distance > 0)
    best = rank.new_zeros(len(wanted)).scatter_reduce(0, image, rank, "amin", include_self=False)  # (N,)
    return wanted + torch.where(best % 2 == 1, best // 2, -(best // 2))
