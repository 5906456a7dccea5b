"""BLEU-1 to BLEU-4: how many of a caption's n-grams stand in one of the image's references, over the whole corpus.

    pₙ = Σ over images and n-grams of min(count in the caption, largest count in one reference) / Σ count in the caption
    BLEU-n = min(1, exp(1 − r/c)) · (p₁ ⋯ pₙ)^(1/n)

c is the length of all captions, r that of the references closest in length to their captions (of two equally close
the shorter). So that nothing is divided by 0 or has a logarithm of 0, 10⁻¹⁵ is added to counts above and 10⁻⁹ to those
below a line, as coco-caption does.

Source: K. Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002.

Shapes: N images, R references of all images.
"""

import torch
from torch import Tensor

from modules.caption_metric import LONGEST, CaptionMetric, Sentences, Tokenizer, ngram_counts
from modules.ptb_tokenizer import ptb_tokenize

_TINY, _SMALL = 1e-15, 1e-9


class BLEU(CaptionMetric):
    """BLEU-1 to BLEU-4, (4,) in [0, 1]: of the corpus, not a mean over images.

    Args:
        tokenize: cuts a text into words; `str.split` for texts that are tokenised already.
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
        for n, one in enumerate(ngram_counts(captions, references, image)):
            ours, theirs = one.count.tensor_split([len(one.caption)])
            most = torch.zeros(len(ours) + 1, dtype=torch.int64).scatter_reduce(0, one.twin, theirs, "amax")[:-1]
            self.matches[n] += torch.minimum(ours, most).sum()
            self.ngrams[n] += ours.sum()
        self.length += captions.lengths.sum()
        self.reference_length += _closest(captions.lengths, references.lengths, image).sum()

    def _score(self) -> Tensor:
        precisions = (self.matches.double() + _TINY) / (self.ngrams.double() + _SMALL)
        ratio = (self.length.double() + _TINY) / (self.reference_length.double() + _SMALL)
        roots = 1 / torch.arange(1, LONGEST + 1, dtype=torch.float64, device=precisions.device)
        return (1 - 1 / ratio).clamp(max=0).exp() * precisions.cumprod(0) ** roots


def _closest(wanted: Tensor, lengths: Tensor, image: Tensor) -> Tensor:
    """The length of each image's reference that is closest to its caption's, (N,); of two the shorter."""
    distance = lengths - wanted[image]  # (R,)
    rank = 2 * distance.abs() + (distance > 0)
    best = rank.new_zeros(len(wanted)).scatter_reduce(0, image, rank, "amin", include_self=False)  # (N,)
    return wanted + torch.where(best % 2 == 1, best // 2, -(best // 2))
