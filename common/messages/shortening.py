"""Values of any length within one sentence."""


def shorten(text: str, width: int = 60) -> str:
    """Returns the beginning of a text that is longer than `width` characters, with "…" for the rest."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
