"""Pages of source files and folders: whatever a page of the site links to in the repository can be read there.

A link to `../modules/linear/linear_svm.py` leads to `source/modules/linear/linear_svm.py.html`, with numbered lines;
a link to a folder leads to a list of its files with the first line of each docstring.
"""

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from docs.site.python_source import PROJECT

_HIDDEN = ("__pycache__", "__init__.py")
_ROOMS = ("modules", "datamodules", "callbacks", "common")  # whose files all have a page; of others, those linked to


def source_uri(env: BuildEnvironment, path: str, line: int | None = None) -> str:
    """Returns the address of a source page from the page that is being read, and has the source page made.

    Args:
        env: Sphinx's environment, which knows the page.
        path: Path of a file or folder from the repository's folder.
        line: Line to scroll to.
    """
    _wanted(env).add(path)
    return "../" * env.docname.count("/") + _page(path) + (f".html#line-{line}" if line else ".html")


def _wanted(env: Any) -> set[str]:
    if not hasattr(env, "source_pages"):
        env.source_pages = set()
    found: set[str] = env.source_pages
    return found


def _page(path: str) -> str:
    return f"source/{path}/index" if (PROJECT / path).is_dir() else f"source/{path}"


def link_to_source_pages(app: Sphinx, doctree: nodes.document) -> None:
    """Turns links to files of the repository, which MyST makes downloads, and to folders into links to source pages."""
    for node in list(doctree.findall(addnodes.download_reference)):
        _replace(app, node, node["reftarget"])
    for node in list(doctree.findall(addnodes.pending_xref)):
        target = node["reftarget"]
        path = normpath(join(dirname(app.env.docname), target))
        if node.get("reftype") == "myst" and "#" not in target and (PROJECT / path).is_dir():
            _replace(app, node, "/" + path)


def _replace(app: Sphinx, node: nodes.Element, target: str) -> None:
    path = target.lstrip("/") if target.startswith("/") else normpath(join(dirname(app.env.docname), target))
    node.replace_self(nodes.reference("", "", *node.children, refuri=source_uri(app.env, path), internal=True))


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yields the name, the content and the template of every source page."""
    of_rooms = {file.relative_to(PROJECT).as_posix() for room in _ROOMS for file in _files(PROJECT / room)}
    wanted = _wanted(app.env) | of_rooms
    for path in sorted(wanted):
        body = _listing(path, wanted) if (PROJECT / path).is_dir() else _listed_source(path)
        yield _page(path), {"title": path, "body": f"<h1>{escape(path)}</h1>{body}"}, "page.html"


def _files(folder: Path) -> list[Path]:
    """Files of a folder and of its subfolders that have text to read."""
    found = (path for path in folder.rglob("*") if path.suffix in (".py", ".yaml", ".sbatch", ".md") and path.is_file())
    return sorted(path for path in found if not set(path.parts) & set(_HIDDEN))


def _listing(folder: str, with_page: set[str]) -> str:
    items = []
    for file in _files(PROJECT / folder):
        name = file.relative_to(PROJECT / folder).as_posix()
        shown = f"<code>{escape(name)}</code>"
        if f"{folder}/{name}" in with_page:
            shown = f'<a href="{name}.html">{shown}</a>'
        items.append(f"<li>{shown} {escape(_first_line(file))}</li>")
    return f"<ul>{''.join(items)}</ul>"


def _first_line(file: Path) -> str:
    """The first sentence of a module's docstring, or of a YAML file's comment."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return text.partition("\n")[0].lstrip("# ") if text.startswith("#") else ""


def _listed_source(path: str) -> str:
    """The lines of a file, numbered, in color; each number is a link to its line."""
    text = (PROJECT / path).read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(path)
    except ClassNotFound:
        lexer = TextLexer()
    formatter = HtmlFormatter(cssclass="highlight", linenos="inline", lineanchors="line", anchorlinenos=True)
    return f'<div class="source-file">{highlight(text, lexer, formatter)}</div>'


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the rewriting of links and the making of pages with Sphinx's events."""
    app.connect("doctree-read", link_to_source_pages, priority=400)  # before downloads are collected
    app.connect("html-collect-pages", source_pages)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
