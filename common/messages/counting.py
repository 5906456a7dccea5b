"""Counts with their noun, in the singular or plural."""

import re

_SIBILANTS = ("s", "x", "z", "ch", "sh")
_PLURAL = re.compile(r"\b(captions|files|folders|images)\b")


def count(number: int, noun: str) -> str:
    """Formats a count with its noun, such as "1 run", "1,200 runs", "3 classes" or "2 entries".

    Args:
        number: The count.
        noun: The noun in the singular; only its last word is changed.
    """
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def count_kind(number: int, kind: str) -> str:
    """Formats a count with a kind of things that is given in the plural, such as "1 hidden file" or "2 hidden files".

    Args:
        number: The count.
        kind: The kind; of one, the first of the nouns caption, file, folder and image becomes a singular.
    """
    return f"{number:,} {kind if number != 1 else _PLURAL.sub(lambda noun: noun[0][:-1], kind, count=1)}"


def plural(noun: str) -> str:
    """Returns the plural of a noun that forms it by rule."""
    if noun.endswith(_SIBILANTS) and not noun.endswith("epoch"):  # whose "ch" is a k
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
