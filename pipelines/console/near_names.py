"""Suggests the accepted name that is nearest to a wrong one."""

from collections.abc import Sequence
from difflib import get_close_matches


def nearest(wrong: str, accepted: Sequence[str]) -> str | None:
    """Returns the nearest name, whatever its case and separators; None if none is near."""
    plain = {_plain(name): name for name in reversed(accepted)}
    near = get_close_matches(_plain(wrong), plain, 1, 0.6)
    return plain[near[0]] if near else None


def suggest(wrong: str, accepted: Sequence[str], prefix: str = "") -> str:
    """Returns "did you mean …?", else the accepted names if there are at most 20, else a word about --help."""
    near = nearest(wrong, accepted)
    if near:
        return f"did you mean {prefix}{near}?"
    if 0 < len(accepted) <= 20:
        return f"use one of {', '.join(prefix + name for name in accepted)}."
    return "see --help for the accepted names."


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")
