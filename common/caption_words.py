"""Words as numbers: the four special words of every vocabulary, and captions from numbers and back to words.

A caption of n words is stored as START w₁ … wₙ END PAD …; UNK stands for every word that the vocabulary lacks.
"""

import re
from collections.abc import Sequence

from common.errors import UserError

PAD, START, END, UNK = range(4)
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")
NEVER_SAID = (PAD, START, UNK)  # a model that writes a caption chooses among the other words and END


def check_vocabulary(vocabulary: Sequence[str]) -> None:
    """Refuses a vocabulary that captions can't be written with.

    Raises:
        ValueError: other words at the places of the special ones, no word beside them, or a word that is there twice.
    """
    if tuple(vocabulary[:4]) != SPECIAL_WORDS:
        raise UserError(
            f"The vocabulary begins with {', '.join(map(repr, vocabulary[:4])) or 'nothing'}; its first four words "
            f"must be {', '.join(SPECIAL_WORDS)}."
        )
    if len(vocabulary) == 4:
        raise UserError("The vocabulary has the four special words alone; give it at least one word to say.")
    if len(set(vocabulary)) < len(vocabulary):
        twice = next(word for place, word in enumerate(vocabulary) if word in vocabulary[:place])
        raise UserError(f"The vocabulary has {twice!r} more than once; give each word once.")


def check_same_words(others: Sequence[str], vocabulary: Sequence[str], whose: str) -> None:
    """Refuses another vocabulary than a model's: every number would be taken for another word.

    Raises:
        ValueError: other words, or the same ones in another order.
    """
    if list(others) == list(vocabulary):
        return
    pairs = enumerate(zip(others, vocabulary, strict=False))
    first = next(
        (f"; word {n} is {theirs!r} there and {mine!r} here" for n, (theirs, mine) in pairs if theirs != mine), ""
    )
    raise UserError(
        f"{whose} has {len(others)} words and the model's {len(vocabulary)}{first}; use the data and settings that the "
        "checkpoint was trained with."
    )


def caption(numbers: Sequence[int], vocabulary: Sequence[str]) -> str:
    """The words of a caption, with spaces between them: what lies before the first END or PAD, START left out."""
    words: list[str] = []
    for number in numbers:
        if number in (END, PAD):
            break
        if number != START:
            words.append(vocabulary[number])
    return " ".join(words)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case: letters and digits with apostrophes inside, as data sets split them."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())
