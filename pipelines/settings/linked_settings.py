"""Settings that a model takes from its data: the shape of its inputs, the number of classes, the vocabulary."""

from inspect import Parameter, signature
from pydoc import locate
from typing import Any

from common.errors import UserError

LINKED = ("input_shape", "num_classes", "vocabulary")
"""Attributes of a data module that models take as settings."""


def linked_setting(name: str, data: Any, model: str, given: Any) -> Any:
    """Returns the data module's attribute, else what the model is given or has as its default.

    Args:
        name: One of `LINKED`.
        data: The data module.
        model: Path of the model's class.
        given: Value in the configuration; None if there is none.

    Returns:
        The value; None if the model has no such setting.

    Raises:
        ValueError: If the configuration and the data disagree, or neither has what the model needs.
    """
    if hasattr(data, name):
        own = getattr(data, name)
        same = given == own or (isinstance(given, list | tuple) and list(given) == list(own))
        if given is not None and not same:
            raise UserError(f"--model.{name} is {given}, but that of {type(data).__name__} is {own}; leave it out.")
        return own
    parameter = signature(locate(model)).parameters.get(name)  # type: ignore[arg-type]
    if given is None and parameter is not None and parameter.default is Parameter.empty:
        raise UserError(
            f"{model} needs the {name} of its data, which {type(data).__name__} does not have; use a data set "
            f"of {'captions' if name == 'vocabulary' else 'classified images'}, or give --model.{name}."
        )
    return given if given is not None or parameter is None else parameter.default
