"""The user, entity and project of the stand-in, as parts of its answers."""

from typing import Any

PROJECT: dict[str, Any] = {"id": "p", "name": "lightning-231n", "entity": {"id": "e", "name": "us"}}
VIEWER: dict[str, Any] = {"id": "1", "entity": "us", "username": "me", "flags": "{}", "teams": {"edges": []}}
REFUSED = "/\\#?%:"
"""Characters that W&B refuses in the name of a project; so does its client."""


def project(name: str | None) -> dict[str, Any]:
    """Returns a project as part of an answer."""
    return {**PROJECT, "internalId": "UHJvamVjdDox", "name": name or PROJECT["name"]}
