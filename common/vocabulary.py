"""The vocabulary of captions: which words it holds, and captions as ids and back.

    "Two dogs!"  →  START two dogs END PAD … (as ids)  →  "two dogs"

A word is a run of letters and digits in lower case, with apostrophes inside it: "A man's T-shirt." is a, man's, t,
shirt. On English captions this is the pattern [a-z0-9']+ without quotation marks. (The caption metrics split captions
as the Penn Treebank does instead.) Marks that belong to a letter are part of the word, as in Hindi or in pointed
Hebrew, and accents count the same whether they are written as one character or as two. In scripts that put no spaces
between words, such as Chinese, Japanese and Thai, each character is a word.

A word that occurs fewer than `min_count` times in the training captions is UNK: too few examples to learn it from, and
each word costs a row of the embedding and one of the output layer. The usual count for COCO is 5
(A. Karpathy, L. Fei-Fei, arXiv 1412.2306).

Shapes: N captions, L longest caption in words.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import Tensor

from common.errors import UserError
from common.ranges import check_range

PAD, START, END, UNK = range(4)
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")  # by id; `split_words` returns none of them
NEVER_GENERATED = (PAD, START, UNK)  # decoding chooses among END and the other words

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_JOINERS = "\u200c\u200d"  # invisible, inside words of Persian and of Indian languages
# Thai, Lao, Burmese, Khmer, Japanese syllables, and the ideographs of Chinese and Japanese.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff" \
    "\U00020000-\U0003ffff"  # fmt: skip


def split_words(caption: str) -> list[str]:
    """Returns the words of a caption in lower case."""
    if caption.isascii():
        return _WORD.findall(caption.lower())
    return _word_of_any_script().findall(unicodedata.normalize("NFC", caption.lower()))


def needs_split_words(text: str) -> bool:
    """Whether a text has words that only `split_words` finds: with marks of their own, or without spaces between."""
    return not text.isascii() and _beyond_letters().search(unicodedata.normalize("NFC", text)) is not None


@cache
def _marks() -> str:
    """Combining marks of the basic plane, as the content of a character class; `re` has no class for them."""
    codes = (code for code in range(0x300, 0xFE00) if not 0x20D0 <= code <= 0x20FF)  # without those of emoji
    return "".join(chr(code) for code in codes if unicodedata.category(chr(code)).startswith("M"))


@cache
def _beyond_letters() -> re.Pattern[str]:
    return re.compile(f"[{_marks()}{_UNSPACED}]|[^\\W_][{_JOINERS}]")  # joiners of emoji follow no letter


@cache
def _word_of_any_script() -> re.Pattern[str]:
    letter, mark = f"(?![{_UNSPACED}])[^\\W_]", f"[{_marks()}{_JOINERS}]"
    part = f"{letter}(?:{letter}|{mark})*"
    return re.compile(f"(?=[^\\W_])[{_UNSPACED}]{mark}*|{part}(?:['’]{part})*")


def build_vocabulary(captions: Iterable[str], min_count: int = 1) -> list[str]:
    """Returns the words by id: the four special ones, then all frequent enough, by falling count, then alphabet.

    Args:
        captions: Training captions alone, so that nothing of the test captions leaks into the vocabulary.
        min_count: How often a word must occur, ≥ 1.

    Raises:
        ValueError: If `min_count` is below 1, or no word occurs often enough.
    """
    check_range("min_count", min_count, min_count >= 1, "at least 1, which keeps every word")
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(split_words(caption))
    kept = sorted((-count, word) for word, count in counts.items() if count >= min_count)
    if not counts:
        raise UserError("The training captions contain no words; give captions with letters or digits in them.")
    if not kept:
        most = max(counts.values())
        raise UserError(
            f"min_count is {min_count}, but no word occurs more than {most} times in the training captions; "
            f"it must be at most {most}."
        )
    return [*SPECIAL_WORDS, *(word for _, word in kept)]


def check_vocabulary(vocabulary: Sequence[str]) -> None:
    """Refuses a list of words that is not a vocabulary.

    Raises:
        ValueError: If the first four words are not the special ones, no other word follows, or a word occurs twice.
    """
    if tuple(vocabulary[:4]) != SPECIAL_WORDS:
        raise UserError(
            f"The vocabulary begins with {', '.join(map(repr, vocabulary[:4])) or 'nothing'}; its first four words "
            f"must be {', '.join(SPECIAL_WORDS)}."
        )
    if len(vocabulary) == 4:
        raise UserError("The vocabulary contains only the four special words; it must have at least one more.")
    if len(set(vocabulary)) < len(vocabulary):
        repeated = next(word for word, count in Counter(vocabulary).items() if count > 1)
        raise UserError(f"The vocabulary contains {repeated!r} more than once; each word must have one id.")


def check_same_vocabulary(other: Sequence[str], vocabulary: Sequence[str], owner: str) -> None:
    """Refuses a vocabulary that differs from the model's, since each id would stand for another word.

    Args:
        other: Words to compare with the model's.
        vocabulary: Words of the model.
        owner: What `other` is, for the message, such as "The data's vocabulary".

    Raises:
        ValueError: If the words or their order differ.
    """
    if list(other) == list(vocabulary):
        return
    pairs = enumerate(zip(other, vocabulary, strict=False))
    first = next((f"; word {i} is {a!r} there and {b!r} in the model" for i, (a, b) in pairs if a != b), "")
    raise UserError(
        f"{owner} has {len(other)} words and the model's {len(vocabulary)}{first}; use the data and settings that the "
        "checkpoint was trained with."
    )


class Vocabulary:
    """Encodes captions as ids.

    Args:
        words: All words by id, as `build_vocabulary` returns them.

    Raises:
        ValueError: As `check_vocabulary`.
    """

    def __init__(self, words: Sequence[str]) -> None:
        check_vocabulary(words)
        self.words = list(words)
        self.ids = {word: i for i, word in enumerate(words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, captions: Sequence[str], max_length: int) -> Tensor:
        """Returns ids of captions, cut after `max_length` words: (N, max_length + 2) int32, padded with PAD."""
        tokens = torch.full((len(captions), max_length + 2), PAD, dtype=torch.int32)
        rows = tokens.numpy()  # shares the memory, and writes a row several times as fast
        for row, caption in zip(rows, captions, strict=True):
            ids = [self.ids.get(word, UNK) for word in split_words(caption)[:max_length]]
            row[: len(ids) + 2] = [START, *ids, END]
        return tokens


def decode_caption(ids: Sequence[int], vocabulary: Sequence[str]) -> str:
    """Returns the words before the first END or PAD, without START, joined by spaces."""
    words: list[str] = []
    for i in ids:
        if i in (END, PAD):
            break
        if i != START:
            words.append(vocabulary[i])
    return " ".join(words)
