"""Finds the setting to which a library's error message refers, by its name on the command line."""

import re
from collections.abc import Sequence

from common.messages.shortening import shorten
from pipelines.settings.written_settings import WrittenSettings

_PHRASES = {
    # part of a message, in small letters: the setting
    "learning rate": "optimizer.lr",
    "momentum value": "optimizer.momentum",
    "nesterov momentum": "optimizer.nesterov",
    "beta parameter": "optimizer.betas",
    "epsilon value": "optimizer.eps",
    "gpu backend": "trainer.accelerator",
    "accelerator": "trainer.accelerator",
    "gpu": "trainer.devices",
    "devices": "trainer.devices",
    "duration": "trainer.max_time",
    "strategy": "trainer.strategy",
    "precision": "trainer.precision",
    "profiler": "trainer.profiler",
    "callback": "trainer.callbacks",
}
_COMMON = {
    "data",
    "model",
    "mode",
    "images",
    "width",
    "norm",
    "loss",
    "features",
    "name",
}  # also common words


def refused_setting(message: str, arguments: Sequence[str]) -> str | None:
    """Returns the setting to which a message refers, such as "--optimizer.lr, which is '-1'"; None if none is found.

    Args:
        message: Error message of a library about a value.
        arguments: The command line.
    """
    written = WrittenSettings(arguments)
    words = set(re.findall(r"\w+", message))
    quoted = set(re.findall(r"[`'](\w+)[`'=]", message))
    said = words - _COMMON | quoted
    named = [setting for setting in reversed(written.settings) if setting.key.rpartition(".")[2] in said]
    # Of several settings whose names are in the message, the one whose value is in it too; else one that was typed.
    given = next((setting for setting in named if setting.value and setting.value in message), None)
    given = given or next((setting for setting in named if not setting.place), None)
    if given is None:
        key = next((key for phrase, key in _PHRASES.items() if phrase in message.lower()), None)
        if key is None:
            return None
        given = written.find(key)
        if given is None:
            return f"--{key}"
    place = f" ({given.place})" if given.place else ""
    return f"--{given.key}, which is {shorten(given.value)!r}{place}"
