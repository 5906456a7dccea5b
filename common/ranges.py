"""Range checks of settings: one sentence that says the setting, its value and what is accepted."""

from common.errors import UserError


def check_range(name: str, value: object, valid: bool, accepted: str) -> None:
    """Refuses a setting whose value is not valid, with the sentence "name is value; it must be accepted."

    Raises:
        ValueError: If the value is not valid.
    """
    if not valid:
        raise UserError(f"{name} is {value}; it must be {accepted}.")
