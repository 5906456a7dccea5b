"""CIDEr-D: similarity of the n-grams of a caption and its references, rare n-grams weighted most.

    g(w) = count of n-gram w in the sentence · log(N / max(1, images with w in a reference))              tf-idf
    s(c, r) = Σ_w min(g_c(w), g_r(w)) g_r(w) / (‖g_c‖ ‖g_r‖) · exp(−(|c| − |r|)² / 2σ²),    σ = 6
    CIDEr-D = 10 · mean of s over n = 1, 2, 3, 4, over an image's references r and over the N images

N and the images with w are those of the corpus that is scored, so a caption's score depends on all the others: a single
image scores 0. |c| and |r| are numbers of bigrams, as in coco-caption.

`cider_d` is the formula in plain Python; the metric `CIDEr` computes the same with hashed n-grams (`cider_engine.py`).

Source: R. Vedantam, C. L. Zitnick, D. Parikh, "CIDEr: consensus-based image description evaluation", CVPR 2015.

Shapes: N images.
"""

from collections import Counter
from collections.abc import Sequence
from math import exp, fsum, log, sqrt

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from modules.caption_metrics.caption_metric import LONGEST, CaptionMetric, Sentences, Tokenizer
from modules.caption_metrics.cider_engine import cider_scores, has_rare_ngrams
from modules.caption_metrics.ptb_tokenizer import tokenize_caption

_SIGMA = 6.0

Ngram = tuple[str, ...]


def cider_d(captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """CIDEr-D of each image, whose mean is the score of the corpus.

    Args:
        captions: Words of each image's caption.
        references: Words of each image's references, at least one.
    """
    scores = [0.0] * len(captions)
    for n in range(1, LONGEST + 1):
        images_with = Counter(w for of_image in references for w in {w for r in of_image for w in ngram_counts(r, n)})
        for image, (caption, of_image) in enumerate(zip(captions, references, strict=True)):
            g_c = tf_idf(caption, n, images_with, len(captions))
            for reference in of_image:
                g_r = tf_idf(reference, n, images_with, len(captions))
                similarity = clipped_cosine(g_c, g_r) * length_penalty(caption, reference)
                scores[image] += 10 / LONGEST / len(of_image) * similarity
    return scores


def ngram_counts(sentence: Sequence[str], n: int) -> Counter[Ngram]:
    """Counts the n-grams of a sentence."""
    return Counter(zip(*(sentence[start:] for start in range(n)), strict=False))


def tf_idf(sentence: Sequence[str], n: int, images_with: Counter[Ngram], num_images: int) -> dict[Ngram, float]:
    """Weights g(w) of the n-grams of a sentence, given the number of images with each in a reference."""
    return {w: count * log(num_images / max(1, images_with[w])) for w, count in ngram_counts(sentence, n).items()}


def clipped_cosine(g_c: dict[Ngram, float], g_r: dict[Ngram, float]) -> float:
    """Cosine of a caption's and a reference's weights, the caption's at most as large as the reference's."""
    product = sum(min(g_c.get(w, 0.0), weight) * weight for w, weight in g_r.items())
    norms = sqrt(sum(weight**2 for weight in g_c.values())) * sqrt(sum(weight**2 for weight in g_r.values()))
    return product / norms if norms else 0.0


def length_penalty(caption: Sequence[str], reference: Sequence[str]) -> float:
    """Gaussian penalty of the difference in length, in bigrams."""
    return exp(-((max(0, len(caption) - 1) - max(0, len(reference) - 1)) ** 2) / (2 * _SIGMA**2))


class CIDEr(CaptionMetric):
    """CIDEr-D as a metric, a scalar in [0, 10].

    Args:
        tokenize: Splits a text into words; `str.split` for tokenized texts.
    """

    caption_words: list[Tensor]
    caption_lengths: list[Tensor]
    reference_words: list[Tensor]
    reference_lengths: list[Tensor]
    per_image: list[Tensor]

    def __init__(self, tokenize: Tokenizer = tokenize_caption) -> None:
        super().__init__(tokenize)
        for name in ("caption_words", "caption_lengths", "reference_words", "reference_lengths", "per_image"):
            self.add_state(name, [], dist_reduce_fx="cat")

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the states, so that a rank without images contributes an empty tensor of the right dtype."""
        return torch.int64

    def _count(self, captions: Sentences, references: Sentences, per_image: Tensor) -> None:
        self.caption_words.append(captions.words.to(self.device))
        self.caption_lengths.append(captions.lengths.to(self.device))
        self.reference_words.append(references.words.to(self.device))
        self.reference_lengths.append(references.lengths.to(self.device))
        self.per_image.append(per_image.to(self.device))

    def _score(self) -> Tensor:
        scores = self.image_scores().tolist()
        return torch.tensor(fsum(scores) / len(scores), dtype=torch.float64)  # fsum: the same in any order

    def image_scores(self, weighted: bool = True) -> Tensor:
        """Scores of the images, (N,) float64, computed on the CPU, where sums have a fixed order.

        Args:
            weighted: Whether rare n-grams count more; if not, all count the same, and g(w) is the plain count.
        """
        captions = Sentences(dim_zero_cat(self.caption_words).cpu(), dim_zero_cat(self.caption_lengths).cpu())
        references = Sentences(dim_zero_cat(self.reference_words).cpu(), dim_zero_cat(self.reference_lengths).cpu())
        return cider_scores(captions, references, dim_zero_cat(self.per_image).cpu(), _SIGMA, weighted)

    def has_weights(self) -> bool:
        """Whether any n-gram of the references has a weight; if all occur in every image, all scores are 0."""
        references = Sentences(dim_zero_cat(self.reference_words).cpu(), dim_zero_cat(self.reference_lengths).cpu())
        return bool(has_rare_ngrams(references, dim_zero_cat(self.per_image).cpu()))
