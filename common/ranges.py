"""Range checks of settings: one sentence that says the setting, its value and what is accepted."""

from common.errors import UserError


def check_range(name: str, value: object, valid: bool, accepted: str) -> None:
    """Raises a UserError "<name> is <value>; it must be <accepted>." if `valid` is false.

    Raises:
        ValueError: If the value is not valid.
    """
    if not valid:
        raise UserError(f"{name} is {value}; it must be {accepted}.")
