"""The option --pack of sweeps and cross-validations."""

import argparse

PACK_HELP = "number of trials that share a process and its training steps, if they differ in numbers alone"


def pack_option(text: str) -> int | None:
    """Returns the number of trials in a pack: None for `auto`, 1 for `off`.

    Raises:
        argparse.ArgumentTypeError: If the text is neither of these nor a whole number of at least 1.
    """
    if text in ("auto", "off"):
        return None if text == "auto" else 1
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is none of auto, off and a whole number of at least 1")
    return int(text)
