"""What the caption metrics share: strings in, checked, cut into words, and words as numbers that can be counted fast.

A word is a 64-bit hash (BLAKE2b), the same in every process. An n-gram's is made of its words', in 64-bit arithmetic
that wraps around:

    h(w₁ … wₙ) = M h(w₁ … wₙ₋₁) + h(wₙ),    M odd

Of the 10 million n-grams of 240,000 captions two have the same hash with a probability of about 10⁻⁶.

Shapes: N images, R references of all images, T words and Q different pairs of a sentence and an n-gram in it, of which
the first C are the captions'.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from modules.ptb_tokenizer import ptb_tokenize

LONGEST = 4  # BLEU and CIDEr look at n-grams of 1 to 4 words
_MULTIPLIER = 6364136223846793005  # M, that of Knuth's MMIX generator

Tokenizer = Callable[[str], Sequence[str]]


@cache
def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little", signed=True)


@dataclass(frozen=True)
class Sentences:
    """The words of sentences, one after the other.

    Attributes:
        words: hashes, (T,) int64.
        lengths: words of each sentence, int64.
    """

    words: Tensor
    lengths: Tensor

    @staticmethod
    def of(texts: Iterable[str], tokenize: Tokenizer) -> "Sentences":
        words, lengths = array("q"), array("q")  # int64
        for text in texts:
            tokens = tokenize(text)
            words.extend(map(_hash, tokens))
            lengths.append(len(tokens))
        return Sentences(torch.from_numpy(np.array(words)), torch.from_numpy(np.array(lengths)))

    def ngrams(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Hashes of all n-grams and the places of their sentences, for n = 1, 2, 3, 4."""
        grams, sentence = self.words, torch.arange(len(self.lengths)).repeat_interleave(self.lengths)  # (T,)
        yield grams, sentence
        for n in range(2, LONGEST + 1):
            grams = grams[:-1] * _MULTIPLIER + self.words[n - 1 :]
            first, last = sentence[: len(grams)], sentence[n - 1 :]
            within = first == last
            yield grams[within], first[within]


@dataclass(frozen=True)
class NgramCounts:
    """How often the captions and the references have each n-gram, for one n.

    Attributes:
        gram: n-grams as numbers below `kinds`, (Q,): first the captions', then the references'.
        kinds: how many different n-grams there are.
        count: how often the sentence has it, (Q,).
        caption: which caption it is in, (C,).
        reference: which reference it is in, (Q − C,).
        twin: where the caption of the reference's image has the same n-gram, C if nowhere, (Q − C,).
    """

    gram: Tensor
    kinds: int
    count: Tensor
    caption: Tensor
    reference: Tensor
    twin: Tensor


def ngram_counts(captions: Sentences, references: Sentences, image: Tensor) -> Iterator[NgramCounts]:
    """Counts for n = 1, 2, 3, 4; `image` is that of each reference, (R,)."""
    images = len(captions.lengths)
    together = Sentences(
        torch.cat([captions.words, references.words]), torch.cat([captions.lengths, references.lengths])
    )
    for hashes, sentence in together.ngrams():
        different, gram = hashes.unique(return_inverse=True)
        kinds = max(len(different), 1)
        pairs, count = (sentence * kinds + gram).unique(return_counts=True)  # (Q,)
        sentence = pairs // kinds
        gram = pairs - sentence * kinds
        split = int(torch.searchsorted(sentence, images))  # C
        reference = sentence[split:] - images
        sought = image[reference] * kinds + gram[split:]
        place = torch.searchsorted(pairs[:split], sought).clamp_(max=max(split - 1, 0))
        twin = torch.where(pairs[place] == sought, place, split)
        yield NgramCounts(gram, kinds, count, sentence[:split], reference, twin)


class CaptionMetric(Metric):
    """Compares captions with references, images in any order and in any share among processes.

    Args:
        tokenize: cuts a text into words; `str.split` for texts that are tokenised already.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    images: Tensor

    def __init__(self, tokenize: Tokenizer = ptb_tokenize) -> None:
        super().__init__()
        self.tokenize = tokenize
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Counts N images: the caption of each and its references, which may differ in number.

        Raises:
            ValueError: captions and references of different numbers of images, an image without references, or
                something else than a string.
        """
        _check(captions, references)
        if not captions:
            return
        self.images += len(captions)
        self._count(
            Sentences.of(captions, self.tokenize),
            Sentences.of(chain.from_iterable(references), self.tokenize),
            torch.tensor([len(of_image) for of_image in references], dtype=torch.int64),
        )

    def compute(self) -> Tensor:
        """The score of all images counted, in float64.

        Raises:
            ValueError: no image has been counted.
        """
        if not self.images:
            raise ValueError(f"{type(self).__name__} has counted no image; call update with captions before compute.")
        return self._score().to(self.device)

    def _count(self, captions: Sentences, references: Sentences, per_image: Tensor) -> None:
        """Takes N captions, the references of all images one after the other, and how many each image has, (N,)."""
        raise NotImplementedError(f"{type(self).__name__} must say what it counts.")

    def _score(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must say its score.")


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(captions, str) or isinstance(references, str):
        raise ValueError("captions or references are one string; give a list of captions and a list of lists of them.")
    if len(captions) != len(references):
        raise ValueError(
            f"There are {len(captions)} captions, but references of {len(references)} images; give one caption and one "
            "list of references for each image."
        )
    for place, (caption, of_image) in enumerate(zip(captions, references, strict=True)):
        if isinstance(of_image, str) or not len(of_image):
            raise ValueError(
                f"The references of image {place} are {of_image!r}; give a list of at least one string for each image."
            )
        for text in (caption, *of_image):
            if not isinstance(text, str):
                raise ValueError(
                    f"A caption or reference of image {place} is {text!r}, a {type(text).__name__}; give strings."
                )
