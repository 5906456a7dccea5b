"""Classes by what a person types: a name, in any case, or an index."""

from collections.abc import Sequence
from difflib import get_close_matches

from common.errors import UserError


def find_class(typed: str, names: Sequence[str]) -> int:
    """The index of a class.

    A name that is written exactly as a class counts before an index, so that the digit "3" is found either way. Of a
    class with several names, such as "tabby, tabby cat", each of them will do.

    Raises:
        ValueError: no such class, or a name that several classes have.
    """
    wanted = typed.strip().casefold()
    found = [i for i, name in enumerate(names) if name.casefold() == wanted]
    found = found or [i for i, name in enumerate(names) if wanted in _synonyms(name)]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise UserError(
            f"{len(found)} classes are called {typed!r}: give one of the indices {', '.join(map(str, found))}."
        )
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    known = {word: name for name in reversed(names) for word in _synonyms(name)}
    near = [name for word, name in known.items() if wanted in word.split()]
    near += [known[word] for word in get_close_matches(wanted, known, n=5)]
    some = ", ".join(dict.fromkeys(map(short, near[:5])))
    hint = f"did you mean {some}?" if some else f"there are, among others, {', '.join(map(short, names[:5]))}."
    raise UserError(f"There is no class {typed!r} among {len(names)} (index 0 to {len(names) - 1}); {hint}")


def short(name: str) -> str:
    """The first of a class's names."""
    return name.partition(",")[0]


def _synonyms(name: str) -> list[str]:
    return [word.strip().casefold() for word in name.split(",")]
