"""The base class of caption metrics: checks and tokenizes captions, and hashes words so that n-grams are counted fast.

A word is represented by a 64-bit hash (BLAKE2b), the same in every process. An n-gram's hash is computed from those of
its words, in 64-bit arithmetic that wraps around:

    h(w₁ … wₙ) = M h(w₁ … wₙ₋₁) + h(wₙ),    M odd

The probability that any two of the 10 million n-grams of 240,000 captions have the same hash is about 10⁻⁶.

Shapes: N images, S sentences, T words in all of them, P n-grams in all of them.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from common.errors import UserError
from common.messages.counting import count
from modules.caption_metrics.ptb_tokenizer import tokenize_caption

LONGEST = 4  # BLEU and CIDEr count n-grams of 1 to 4 words
_MULTIPLIER = 6364136223846793005  # M, that of Knuth's MMIX generator

Tokenizer = Callable[[str], Sequence[str]]


@cache
def _hash(word: str) -> bytes:
    return blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()


@lru_cache(maxsize=2**16)
def hashed_words(text: str, tokenize: Tokenizer) -> bytes:
    """Hashes of a text's words, cached: three metrics read the same texts, and every epoch the same references."""
    return b"".join(map(_hash, tokenize(text)))


@dataclass(frozen=True)
class Sentences:
    """Hashed words of S sentences, concatenated.

    Attributes:
        words: Hashes of all words, (T,) int64.
        lengths: Number of words of each sentence, (S,) int64.
    """

    words: Tensor
    lengths: Tensor

    @staticmethod
    def of(texts: Iterable[str], tokenize: Tokenizer) -> "Sentences":
        """Tokenizes and hashes texts."""
        sentences = [hashed_words(text, tokenize) for text in texts]
        words = np.frombuffer(b"".join(sentences), np.int64).copy()
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences)) // words.itemsize
        return Sentences(torch.from_numpy(words), torch.from_numpy(lengths))

    def ngrams(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields hashes of all n-grams and the indices of their sentences, (P,) each, for n = 1, 2, 3, 4."""
        grams, sentence = self.words, torch.arange(len(self.lengths)).repeat_interleave(self.lengths)  # (T,)
        yield grams, sentence
        for n in range(2, LONGEST + 1):
            grams = grams[:-1] * _MULTIPLIER + self.words[n - 1 :]
            first, last = sentence[: len(grams)], sentence[n - 1 :]
            within = first == last
            yield grams[within], first[within]


class CaptionMetric(Metric):
    """A metric that compares captions with references, the same for any order of images and number of processes.

    Args:
        tokenize: Splits a text into words; `str.split` for tokenized texts.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    images: Tensor

    def __init__(self, tokenize: Tokenizer = tokenize_caption) -> None:
        super().__init__()
        self.tokenize = tokenize
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Adds N images: the caption of each and its references, which may differ in number.

        Raises:
            ValueError: If the numbers of captions and of lists of references differ, an image has no references, or a
                text is not a string.
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
        """Returns the score of all images so far, in float64.

        Raises:
            ValueError: If there are no images.
        """
        if not self.images:
            raise UserError(f"{type(self).__name__} has no images; call update with captions before compute.")
        return self._score().to(self.device)

    @abstractmethod
    def _count(self, captions: Sentences, references: Sentences, per_image: Tensor) -> None:
        """Adds N captions, the references of all images in the same order, and their number per image, (N,)."""

    @abstractmethod
    def _score(self) -> Tensor:
        """Returns the score of all images so far, in float64."""


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(captions, str) or isinstance(references, str):
        raise UserError("captions or references are one string; give a list of captions and a list of lists of them.")
    if len(captions) != len(references):
        raise UserError(
            f"There are {count(len(captions), 'caption')}, but references of {count(len(references), 'image')}; "
            "give one caption and one "
            "list of references for each image."
        )
    for i, of_image in enumerate(references):
        if isinstance(of_image, str) or not len(of_image):
            raise UserError(
                f"The references of image {i} are {of_image!r}; give a list of at least one string for each image."
            )
    for text in chain(captions, chain.from_iterable(references)):
        if not isinstance(text, str):
            raise UserError(f"A caption or reference is {text!r}, a {type(text).__name__}; give strings.")
