"""YAML as users write it: read strictly and in bounded time; every mistake is named with its line.

PyYAML takes the last of two equal keys without a word, reads 010 as 8 and 1:30 as 90, gives 1e-3 as text, crashes the
process on deeply nested lists, and turns a few lines of aliases into gigabytes when they are used. Here two equal keys
are an error, 010 is 10, 1:30 is text and 1e-3 a number, and size, depth and aliases are limited.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from common.errors import UserError
from common.messages.shortening import shorten

_MAX_BYTES = 1_000_000
_MAX_DEPTH = 100
_MAX_NODES = 100_000  # with every alias written out
_MAX_DIGITS = 4300  # of a number that Python reads
_SAFE_LENGTH = 10_000  # libyaml's recursion overflows the stack at some 40,000 levels, each of which takes a character

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|[0-9]+(?:_[0-9]+)*)\Z")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"
)

_PLAIN = {
    # message of libyaml: the cause, and what to do
    "mapping values are not allowed": "a ': ' in a value, which needs quotes, or a wrong indentation",
    "found character that cannot start any token": "a value that begins with a special character, which needs quotes",
    "found undefined alias": "a value that begins with *, which needs quotes",
    "found unhashable key": "a key that is a list or a mapping; a value with {} or [] needs quotes",
    "could not determine a constructor for the tag": "a value that begins with !, which needs quotes",
    "found another document": "a second document begins with ---; keep one",
}


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, if PyYAML was built with it


class InvalidYAML(UserError):
    """The text is not YAML, rather than YAML that this module refuses."""


class StrictSafeLoader(_SafeLoader):  # type: ignore[misc]
    """`yaml.SafeLoader` with numbers as Python and JSON write them, and with the limits of this module.

    What it refuses beyond the syntax of YAML is a UserError without a subject, such as "has the key 'lr' twice, …".

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if len(text) > _MAX_BYTES:
            raise UserError("has more than 1 MB; shorten it.")
        if len(text) > _SAFE_LENGTH:
            _check_depth(text)

    def get_single_node(self) -> yaml.Node | None:
        """Returns the tree of nodes, in which an alias is the node that it means."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _check_nodes(node, {}, 0)
        return node

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":timestamp"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _construct_int(loader: Any, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    digits = text.lstrip("+-")
    if len(digits) > _MAX_DIGITS:
        raise UserError(f"has a number of {len(digits):,} digits in {_line(node)}; correct it.")
    return int(text, 0 if digits[1:2].isalpha() else 10)


StrictSafeLoader.add_implicit_resolver(f"{_TAG}int", _INT, list("-+0123456789"))
StrictSafeLoader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+0123456789."))
StrictSafeLoader.add_constructor(f"{_TAG}int", _construct_int)


def read_yaml_file(path: Path) -> str:
    """Returns the text of a YAML file.

    Raises:
        ValueError: If the file is larger than 1 MB, or not UTF-8 text.
        OSError: If it can't be read.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise UserError(f"{path} has more than 1 MB; give a YAML file, such as the config.yaml of a run.")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16 text, as Windows writes it; save it as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} is not UTF-8 text (line {line}); give a YAML file, saved as UTF-8.") from None


def load_yaml(text: str, name: str) -> Any:
    """Returns the content of YAML text, which must be one document.

    Args:
        text: The text.
        name: What an error calls the text, such as its path.

    Raises:
        InvalidYAML: If the text is not valid YAML.
        UserError: If it has a key twice, or is too long, too deep or too large once its aliases are written out.
    """
    try:
        return _single_document(StrictSafeLoader(text))
    except UserError as error:
        raise UserError(f"{name} {error}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise InvalidYAML(f"{name} is not valid YAML ({_problem(error, text)}); correct it.") from None


def _single_document(loader: StrictSafeLoader) -> Any:
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def yaml_leaves(text: str) -> Iterator[tuple[str, int, str]]:
    """Yields the dotted key of every value, its line from 1, and the value as it is written; nothing for invalid YAML.

    A key that has keys itself is not yielded. A list is, and so are the keys of its entries, under the key of the list.
    """
    try:
        node = yaml.compose(text, StrictSafeLoader)
    except (yaml.YAMLError, UnicodeError, UserError):
        return
    if node is not None:
        yield from _leaves(node, "", node.start_mark.line + 1, text)


def _leaves(node: yaml.Node, prefix: str, line: int, text: str) -> Iterator[tuple[str, int, str]]:
    if isinstance(node, yaml.MappingNode) and node.value:
        for key, value in node.value:
            name = f"{prefix}.{key.value}" if prefix else str(key.value)
            yield from _leaves(value, name, key.start_mark.line + 1, text)
        return
    if isinstance(node, yaml.ScalarNode):
        yield prefix, line, node.value
        return
    yield prefix, line, " ".join(text[node.start_mark.index : node.end_mark.index].split())
    for entry in node.value:
        if isinstance(entry, yaml.MappingNode):
            yield from _leaves(entry, prefix, entry.start_mark.line + 1, text)


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, _SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise UserError(f"is nested more than {_MAX_DEPTH} levels deep in {_line(event)}; correct it.")


def _check_nodes(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """Returns the number of nodes with every alias written out; raises a UserError for what the module refuses."""
    known = sizes.get(id(node))
    if known is not None:
        if known == 0:
            raise UserError(f"has an alias within what it means, in {_line(node)}; write it out.")
        return known
    sizes[id(node)] = 0 if isinstance(node, yaml.CollectionNode) else 1
    if isinstance(node, yaml.ScalarNode):
        return 1
    if depth > _MAX_DEPTH:
        raise UserError(f"is nested more than {_MAX_DEPTH} levels deep in {_line(node)}; correct it.")
    size = 1
    if isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                _check_unique(key, lines)
            size += _check_nodes(key, sizes, depth + 1) + _check_nodes(value, sizes, depth + 1)
    else:
        size += sum(_check_nodes(entry, sizes, depth + 1) for entry in node.value)
    if size > _MAX_NODES:
        raise UserError(
            f"has more than {_MAX_NODES:,} values from {_line(node)} on, once its aliases are written out; shorten it."
        )
    sizes[id(node)] = size
    return size


def _check_unique(key: yaml.ScalarNode, lines: dict[tuple[str, str], int]) -> None:
    line = key.start_mark.line + 1
    first = lines.get((key.tag, key.value))
    lines[key.tag, key.value] = line
    if first is not None and key.tag != f"{_TAG}merge":
        where = f"both in line {line}" if first == line else f"in lines {first} and {line}"
        raise UserError(f"has the key {key.value!r} twice, {where}; keep one of them.")


def _line(node: Any) -> str:
    return f"line {node.start_mark.line + 1}"


def _problem(error: Exception, text: str) -> str:
    """Returns the line of a syntax error, what stands there, and what is wrong with it."""
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).splitlines()[0]
    mark = getattr(error, "problem_mark", None)
    lines = text.splitlines()
    if mark is None:
        position = getattr(error, "position", None)  # of a character that YAML can't hold, in bytes
        line = text.encode(errors="replace").count(b"\n", 0, position) if isinstance(position, int) else 0
    else:
        line = mark.line
        started = getattr(error, "context_mark", None)
        if line >= len(lines) and started is not None:  # the file ended before what was begun here
            line = started.line
            problem += "; is the file cut off?"
    written = lines[line] if line < len(lines) else ""
    if "\t" in written[: len(written) - len(written.lstrip())]:
        problem = "a tab in the indentation, which must be of spaces"
    problem = next((plain for library, plain in _PLAIN.items() if library in problem), problem)
    place = f"line {line + 1}, {shorten(written.strip())!r}" if written.strip() else f"line {line + 1}"
    return f"{place}: {problem}"
