"""Finds classes by name, in any case, or by index."""

from collections.abc import Sequence
from difflib import get_close_matches

from common.errors import UserError


def find_class(typed: str, names: Sequence[str]) -> int:
    """Returns the index of a class.

    A name has precedence over an index, so the class "3" of digits is not class 3 of other labels. A class with several
    names, such as "tabby, tabby cat", is found by each of them.

    Raises:
        ValueError: If there is no such class, or several classes have the name.
    """
    query = typed.strip().casefold()
    matches = [i for i, name in enumerate(names) if name.casefold() == query]
    matches = matches or [i for i, name in enumerate(names) if query in _synonyms(name)]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise UserError(
            f"{len(matches)} classes are called {typed!r}; use one of the indices {', '.join(map(str, matches))}."
        )
    if query.isdecimal() and int(query) < len(names):
        return int(query)
    known = {synonym: name for name in reversed(names) for synonym in _synonyms(name)}
    near = [name for synonym, name in known.items() if query in synonym.split()]
    near += [known[synonym] for synonym in get_close_matches(query, known, n=5)]
    suggested = ", ".join(dict.fromkeys(map(short, near[:5])))
    hint = f"did you mean {suggested}?" if suggested else f"some classes are {', '.join(map(short, names[:5]))}."
    raise UserError(f"There is no class {typed!r} among {len(names)} (indices 0 to {len(names) - 1}); {hint}")


def short(name: str) -> str:
    """Returns the first of a class's names."""
    return name.partition(",")[0]


def _synonyms(name: str) -> list[str]:
    return [synonym.strip().casefold() for synonym in name.split(",")]
