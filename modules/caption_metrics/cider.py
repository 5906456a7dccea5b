"""CIDEr-D: how alike the n-grams of a caption and its references are, rare n-grams counting most.

    g(w) = count of n-gram w in the sentence · log(N / max(1, images with w in a reference))
    s(c, r) = Σ_w min(g_c(w), g_r(w)) g_r(w) / (‖g_c‖ ‖g_r‖) · exp(−(|c| − |r|)² / 2σ²),    σ = 6
    CIDEr-D = 10 · mean of s over n = 1, 2, 3, 4, over an image's references r and over the N images

N and the images with w are those of the corpus that is scored, so a caption's score depends on all the others: a single
image scores 0. |c| and |r| are counted in pairs of neighboring words, as coco-caption does.

Source: R. Vedantam, C. L. Zitnick, D. Parikh, "CIDEr: consensus-based image description evaluation", CVPR 2015.

Shapes: N images, R references of all images, S = N + R sentences; of n-grams P in all of them, G different ones, Q
different pairs of one and its sentence, of which C are of captions.
"""

from math import fsum, log

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from modules.caption_metrics.caption_metric import LONGEST, CaptionMetric, Sentences, Tokenizer
from modules.caption_metrics.ptb_tokenizer import ptb_tokenize

_SIGMA = 6.0


class CIDEr(CaptionMetric):
    """CIDEr-D, a scalar in [0, 10].

    Args:
        tokenize: cuts a text into words; `str.split` for texts that are tokenized already.
    """

    caption_words: list[Tensor]
    caption_lengths: list[Tensor]
    reference_words: list[Tensor]
    reference_lengths: list[Tensor]
    per_image: list[Tensor]

    def __init__(self, tokenize: Tokenizer = ptb_tokenize) -> None:
        super().__init__(tokenize)
        for name in ("caption_words", "caption_lengths", "reference_words", "reference_lengths", "per_image"):
            self.add_state(name, [], dist_reduce_fx="cat")

    @property
    def dtype(self) -> torch.dtype:
        """That of the states, and so of the nothing which a process without images adds to them."""
        return torch.int64

    def _count(self, captions: Sentences, references: Sentences, per_image: Tensor) -> None:
        self.caption_words.append(captions.words.to(self.device))
        self.caption_lengths.append(captions.lengths.to(self.device))
        self.reference_words.append(references.words.to(self.device))
        self.reference_lengths.append(references.lengths.to(self.device))
        self.per_image.append(per_image.to(self.device))

    def _score(self) -> Tensor:
        scores = self.of_images().tolist()
        return torch.tensor(fsum(scores) / len(scores), dtype=torch.float64)  # fsum: the same in any order

    def of_images(self) -> Tensor:
        """The score of each image, (N,). On the CPU, where sums are taken in one order."""
        captions = Sentences(dim_zero_cat(self.caption_words).cpu(), dim_zero_cat(self.caption_lengths).cpu())
        references = Sentences(dim_zero_cat(self.reference_words).cpu(), dim_zero_cat(self.reference_lengths).cpu())
        per_image = dim_zero_cat(self.per_image).cpu()
        image = torch.arange(len(per_image)).repeat_interleave(per_image)  # of each reference, (R,)
        similarity = _similarities(captions, references, image)
        similarity *= _penalties((captions.lengths - 1).clamp(min=0)[image] - (references.lengths - 1).clamp(min=0))
        return 10 / LONGEST * torch.bincount(image, similarity, len(per_image)) / per_image


def _similarities(captions: Sentences, references: Sentences, image: Tensor) -> Tensor:
    """Sum of the clipped cosines over n, of each reference with its image's caption: (R,) float64."""
    images, total = len(captions.lengths), torch.zeros(len(image), dtype=torch.float64)
    idf = log(images) - torch.arange(images + 1).clamp(min=1).double().log()  # by the number of images
    sentences = Sentences(
        torch.cat([captions.words, references.words]), torch.cat([captions.lengths, references.lengths])
    )
    for hashes, sentence in sentences.ngrams():
        gram, sentence, count = _counts(hashes, sentence)  # (Q,)
        in_captions, in_references = (where.nonzero().flatten() for where in (sentence < images, sentence >= images))
        caption, reference = sentence[in_captions], sentence[in_references] - images  # (C,), (Q − C,)
        places = gram[in_captions] * images + caption
        sought = gram[in_references] * images + image[reference]  # sorted as places are
        documents = torch.bincount(gram[in_references[_changes(sought)]], minlength=len(gram))  # at least (G,)
        weights = count * idf[documents[gram]]
        norms = torch.bincount(sentence, weights.square(), images + len(image)).sqrt()  # (S,)
        ours, theirs = weights[in_captions], weights[in_references]
        clipped = torch.minimum(F.pad(ours, (0, 1))[_find(places, sought)], theirs)
        products = torch.bincount(reference, clipped * theirs, len(image))  # (R,)
        total += (products / (norms[image] * norms[images:])).nan_to_num()  # 0 / 0 where no n-gram has a weight
    return total


def _counts(hashes: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts each sentence's n-grams.

    Args:
        hashes: of all n-grams, (P,).
        sentence: where each of them is, (P,), sorted.

    Returns:
        n-grams as numbers below G, the sentences that they are in, and how often: (Q,) each, sorted by both.
    """
    hashes, order = hashes.sort(stable=True)  # so the sentences stay sorted within an n-gram
    sentence = sentence[order]
    new_gram = _changes(hashes)
    first = (new_gram | _changes(sentence)).nonzero().flatten()
    count = first.diff(append=first.new_tensor([len(hashes)]))
    return new_gram.cumsum(0)[first] - 1, sentence[first], count


def _changes(values: Tensor) -> Tensor:
    """Where a value differs from the one before it; the first does."""
    changed = torch.ones(len(values), dtype=torch.bool)
    torch.ne(values[1:], values[:-1], out=changed[1:])
    return changed


def _find(places: Tensor, sought: Tensor) -> Tensor:
    """Where among sorted numbers each of the sought is; behind the last if it is none of them."""
    found = torch.searchsorted(places, sought)
    return torch.where(F.pad(places, (0, 1), value=-1)[found] == sought, found, len(places))


def _penalties(differences: Tensor) -> Tensor:
    """exp(−δ² / 2σ²) of whole numbers, from a table: the same to the last digit wherever a δ stands."""
    sizes = differences.abs()
    return torch.arange(int(sizes.max()) + 1).double().square().div(-2 * _SIGMA**2).exp()[sizes]
