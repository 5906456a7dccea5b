"""Explains in one sentence what is wrong with a command line."""

from typing import Any


def explain(message: str, parser: Any, arguments: list[str]) -> str:
    return " ".join(message.split())
