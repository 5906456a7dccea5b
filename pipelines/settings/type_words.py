"""Names the type of a setting by the notation of its values: "a list of integers, such as [64, 128]"."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from os import PathLike
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_SINGLE = {int: "an integer", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
_SEVERAL = {int: "integers", float: "numbers", bool: "true or false", str: "names"}
_EXAMPLES = {int: "[64, 128]", float: "[0.9, 0.999]", bool: "[true, false]", str: "[a, b]"}


def in_words(annotation: Any, null: bool = False) -> str:
    """Returns the description of a type, such as "an integer"; empty if there is none.

    Args:
        annotation: The type hint.
        null: Whether to name null among the values of an optional setting.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return in_words(arguments[0], null)
    if origin in (Union, UnionType):
        return _union(arguments, null)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}" if len(arguments) > 1 else repr(arguments[0])
    if annotation in _SINGLE:
        return _SINGLE[annotation]
    kind = origin or annotation
    if kind is Callable or not inspect.isclass(kind):
        return "the import path of a function" if kind is Callable else ""
    if issubclass(kind, timedelta):
        return "a duration such as 00:12:00:00 (days, hours, minutes, seconds)"
    if issubclass(kind, PathLike):
        return "a path"
    if issubclass(kind, Mapping):
        return "values by name, such as {name: value}"
    if issubclass(kind, Iterable | Collection) and not issubclass(kind, str | bytes):
        return _list(kind, arguments)
    return "" if kind in (object, type) else f"a class derived from {kind.__name__}"


def _union(members: tuple[Any, ...], null: bool) -> str:
    kinds = list(members)
    if float in kinds:  # every integer is a number, and torch's optimizers also accept tensors
        kinds = [kind for kind in kinds if kind is not int and getattr(kind, "__name__", "") != "Tensor"]
    if not null and len(kinds) > 1:
        kinds = [kind for kind in kinds if kind is not NoneType]
    literals = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    distinct = tuple({str(value): value for value in literals}.values())
    kinds = [kind for kind in kinds if get_origin(kind) is not Literal] + ([Literal[distinct]] if distinct else [])
    words = list(dict.fromkeys(filter(None, (in_words(kind) for kind in kinds))))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}" if words else ""


def _list(kind: Any, arguments: tuple[Any, ...]) -> str:
    fixed = issubclass(kind, tuple) and bool(arguments) and Ellipsis not in arguments
    entry = _entry(arguments[0]) if arguments else None
    if entry not in _SEVERAL and inspect.isclass(entry) and not issubclass(entry, Mapping):
        return f"a list of classes derived from {entry.__name__}"
    of = f" of {len(arguments)}" if fixed else " of" if entry in _SEVERAL else ""
    named = f" {_SEVERAL[entry]}" if entry in _SEVERAL else " values" if fixed else ""
    return f"a list{of}{named}, such as {_EXAMPLES.get(entry, '[a, b]')}"


def _entry(annotation: Any) -> Any:
    """Returns the simplest type of a list's entries: float for `float | Tensor`."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((kind for kind in (float, int, str, bool) if kind in members), members[0])
