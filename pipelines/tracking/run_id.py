"""Ids of runs: the name of a run's folder, and its id on W&B, which refuses some characters.

W&B's rules: no `:;,#?/'`, no space at either end (`wandb.Settings.run_id`), at most 128 characters (its service).
"""

import re

from common.errors import UserError

_REFUSED = ":;,#?/\\'"  # "\" by W&B's service alone
_MAX_LENGTH = 128
_MAX_STEM = 48  # of a name to which time, random digits and the number of a trial are added


def check_run_id(run_id: str, source: str) -> None:
    """Checks an id that the user has chosen.

    Args:
        run_id: The id.
        source: Where it was set, such as "WANDB_RUN_ID".

    Raises:
        ValueError: If it can't be the name of a folder, or W&B refuses it.
    """
    if not run_id.strip(" ."):
        problem = "has no letter or digit"
    elif run_id != run_id.strip():
        problem = "begins or ends with a space"
    elif refused := [character for character in run_id if character in _REFUSED or not character.isprintable()]:
        problem = f"contains {refused[0]!r}"
    elif len(run_id.encode(errors="replace")) > _MAX_LENGTH:
        problem = f"has {len(run_id)} characters, more than {_MAX_LENGTH}"
    else:
        return
    shown = run_id if len(run_id) <= _MAX_LENGTH else f"{run_id[:_MAX_LENGTH]}…"
    raise UserError(
        f"{source} is {shown!r}, which {problem}; use letters, digits, dots, hyphens and underscores, or unset it for "
        "an id made of the time."
    )


def wandb_run_id(folder: str) -> str:
    """Returns the id on W&B of the run in a folder: its name, with "-" for what W&B refuses in it."""
    return re.sub(rf"[{re.escape(_REFUSED)}]+", "-", folder.strip())[:_MAX_LENGTH]


def id_stem(name: str) -> str:
    """Returns the start of the ids of a sweep's runs: the name of its file with "-" for all but letters and digits.

    So it is one name as a folder, on W&B and as a word of a command line.
    """
    return re.sub(r"[^\w.-]+", "-", name)[:_MAX_STEM].strip("-.") or "sweep"
