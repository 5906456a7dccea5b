"""A setting out of its range is refused in one sentence, where it enters."""

from common.errors import UserError


def check_range(name: str, value: object, valid: bool, accepted: str) -> None:
    """Refuses a value.

    Raises:
        ValueError: it is not valid; says the setting, the value and what is accepted.
    """
    if not valid:
        raise UserError(f"{name} is {value}; give {accepted}.")
