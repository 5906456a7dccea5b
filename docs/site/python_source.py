"""Finds classes, functions, methods and docstrings in the project's source by their dotted names, without imports."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


class NotFound(LookupError):
    """A name that the source does not have; the message says which."""


@dataclass(frozen=True)
class Excerpt:
    """Lines of a source file.

    Attributes:
        file: Path from the repository's folder, with slashes.
        first: Number of the first line, from 1.
        last: Number of the last line.
        text: The lines, without the indentation that they have in common.
    """

    file: str
    first: int
    last: int
    text: str


def find_excerpt(name: str) -> Excerpt:
    """Returns the lines of a class, function, method or constant, such as modules.linear.linear_svm.LinearSVM.loss.

    Decorators belong to it. A name with a slash is a whole file.

    Raises:
        NotFound: If there is no such file, or nothing of this name in it.
    """
    members: list[str] = []
    if "/" in name:
        file = name
        if not (PROJECT / file).is_file():
            raise NotFound(f"there is no file {name}")
    else:
        file, members = _split(name)
    lines = (PROJECT / file).read_text(encoding="utf-8").splitlines()
    first, last = 1, len(lines)
    scope: list[ast.stmt] = ast.parse("\n".join(lines)).body if members else []
    for i, member in enumerate(members):
        node = next((node for node in scope if member in _names(node)), None)
        if node is None:
            raise NotFound(f"{file} has no {'.'.join(members[: i + 1])}")
        decorators = [decorator.lineno for decorator in getattr(node, "decorator_list", [])]
        first, last = min([node.lineno, *decorators]), node.end_lineno or node.lineno
        scope = getattr(node, "body", [])
    chosen = lines[first - 1 : last]
    indent = min((len(line) - len(line.lstrip()) for line in chosen if line.strip()), default=0)
    return Excerpt(file, first, last, "\n".join(line[indent:] for line in chosen))


def find_docstring(module: str, part: str | None = None) -> tuple[str, str]:
    """Returns the path of a module and its docstring, or the part of it that begins with a bold title.

    Args:
        module: Dotted name of the module.
        part: Beginning of the bold title; the part ends before the next title, or the sources.

    Raises:
        NotFound: If there is no such module, or its docstring has no such part.
    """
    file, members = _split(module)
    if members:
        raise NotFound(f"{module} is not a module")
    paragraphs = (ast.get_docstring(ast.parse((PROJECT / file).read_text(encoding="utf-8"))) or "").split("\n\n")
    if part is None:
        return file, "\n\n".join(paragraphs)
    begins = [i for i, text in enumerate(paragraphs) if re.match(rf"\*\*{re.escape(part)}", text)]
    if not begins:
        raise NotFound(f"the docstring of {file} has no part **{part}**")
    rest = paragraphs[begins[0] + 1 :]
    end = next((i for i, text in enumerate(rest) if re.match(r"\*\*|Sources?:|Shapes:", text)), len(rest))
    return file, "\n\n".join([paragraphs[begins[0]], *rest[:end]])


def _split(name: str) -> tuple[str, list[str]]:
    """The file of a dotted name, and what is left of the name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        file = "/".join(parts[:length]) + ".py"
        if (PROJECT / file).is_file():
            return file, parts[length:]
    raise NotFound(f"there is no module {name}")


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
