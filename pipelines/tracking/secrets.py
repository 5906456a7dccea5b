"""Hides passwords and API keys in printed messages, recorded command lines and settings sent to W&B.

A run's own config.yaml keeps them, because continuing the run needs them.
"""

import re
from collections.abc import Sequence
from typing import Any

_HIDDEN = "***"
_SECRET = re.compile(r"(^|[._-])(api_?key|password|secret|((access|auth)_)?token)$", re.IGNORECASE)
_IN_URL = re.compile(r"://[^/\s]*@")


def without_passwords(text: str) -> str:
    """Returns a text without the user names and passwords in its URLs."""
    return _IN_URL.sub("://", text)


def hide_secrets(settings: Any, name: str = "") -> Any:
    """Returns settings with *** for keys and passwords, and without those in URLs.

    Args:
        settings: A value, or lists and dictionaries of them.
        name: Name of the setting.
    """
    if isinstance(settings, dict):
        return {key: hide_secrets(value, str(key)) for key, value in settings.items()}
    if isinstance(settings, list):
        return [hide_secrets(value, name) for value in settings]
    if _SECRET.search(name) and settings:
        return _HIDDEN
    return without_passwords(settings) if isinstance(settings, str) else settings


def hide_arguments(arguments: Sequence[str]) -> list[str]:
    """Returns the words of a command line with *** for keys and passwords, and without those in URLs."""
    shown: list[str] = []
    option = ""  # whose value comes next
    for word in arguments:
        name, equals, value = word.partition("=")
        if option and _SECRET.search(option):
            word = _HIDDEN
        elif word.startswith("--") and equals and _SECRET.search(name):
            word = f"{name}={_HIDDEN if value else ''}"
        option = word if word.startswith("--") and not equals else ""
        shown.append(without_passwords(word))
    return shown
