"""The words of captions and their ids: a caption becomes START w₁ … wₙ END, padded to a common length.

A word is a run of letters and digits in lower case, with apostrophes inside it: "A man's T-shirt." is a, man's, t,
shirt. On English captions this is the pattern [a-z0-9']+ without quotation marks. (Metrics split captions into words
for themselves, as the Penn Treebank does.)

A word that occurs fewer than `min_count` times in the training captions is UNK: too few examples to learn it from, and
each word costs a row of the embedding and one of the output layer. The usual count for COCO is 5
(A. Karpathy, L. Fei-Fei, arXiv 1412.2306).

Shapes: N captions, L longest caption in words.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from common.errors import UserError

PAD, START, END, UNK = range(4)
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")  # by id; no caption has such words

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def split_words(caption: str) -> list[str]:
    """The words of a caption, in lower case; an empty list if there is none."""
    return _WORD.findall(caption.lower())


def build_vocabulary(captions: Iterable[str], min_count: int = 1) -> list[str]:
    """The words by id: the four special ones, then all that occur often enough, by falling count, then alphabet.

    Args:
        captions: training captions alone, or what the model is tested on leaks into it.
        min_count: how often a word must occur, at least 1.

    Raises:
        ValueError: a count below 1, or no word that occurs often enough.
    """
    if min_count < 1:
        raise UserError(f"min_count is {min_count}; give 1 (every word) or more.")
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(split_words(caption))
    kept = sorted((-count, word) for word, count in counts.items() if count >= min_count)
    if not counts:
        raise UserError("The training captions have no word at all; give captions with letters or digits in them.")
    if not kept:
        most = max(counts.values())
        raise UserError(
            f"min_count is {min_count}, but no word occurs more than {most} times in the training captions; "
            f"give at most {most}."
        )
    return [*SPECIAL, *(word for _, word in kept)]


class Vocabulary:
    """Turns captions into ids.

    Args:
        words: all words by id, as `build_vocabulary` makes them.

    Raises:
        ValueError: words that do not begin with the special ones, or a word that occurs twice.
    """

    def __init__(self, words: Sequence[str]) -> None:
        if tuple(words[: len(SPECIAL)]) != SPECIAL:
            raise UserError(f"The vocabulary begins with {list(words[:4])}; it must begin with {list(SPECIAL)}.")
        self.words = list(words)
        self.ids = {word: i for i, word in enumerate(words)}
        if len(self.ids) < len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise UserError(f"The vocabulary has the word {twice!r} twice; each word must have one id.")

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, captions: Sequence[str], max_length: int) -> Tensor:
        """Ids of captions, those longer than `max_length` words cut: (N, max_length + 2) int32, padded with PAD."""
        tokens = torch.full((len(captions), max_length + 2), PAD, dtype=torch.int32)
        rows = tokens.numpy()  # shares the memory, and writes a row several times as fast
        for row, caption in zip(rows, captions, strict=True):
            ids = [self.ids.get(word, UNK) for word in split_words(caption)[:max_length]]
            row[: len(ids) + 2] = [START, *ids, END]
        return tokens
