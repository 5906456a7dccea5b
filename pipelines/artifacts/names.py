"""Names of artifacts where a command takes a checkpoint: `wandb:ENTITY/PROJECT/ARTIFACT:ALIAS`."""

import re

from common.errors import UserError

PREFIX = "wandb:"
ALIASES = ("best", "last")
"""Aliases that mean one of the two checkpoints of a version."""

_NAME = re.compile(r"([\w.-]+/[\w .-]+/[\w.-]+):([^/:]+)")


def is_artifact(text: object) -> bool:
    """Returns whether a value is the name of an artifact."""
    return isinstance(text, str) and text.startswith(PREFIX)


def parse(name: str) -> tuple[str, str]:
    """Returns ENTITY/PROJECT/ARTIFACT and the alias of a name.

    Raises:
        UserError: If it is malformed.
    """
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None or ".." in name:
        raise UserError(
            f"{name!r} does not name an artifact; write {PREFIX}ENTITY/PROJECT/ARTIFACT:ALIAS, such as "
            f"{PREFIX}me/lightning-231n/model-RUN:best."
        )
    return match[1], match[2]
