"""The text of every section in a script, which `static/section_search.js` searches on the site's search page.

Sphinx's own search lists the pages that have all words of a query; this one also finds the sections that answer a whole
question, and works on a folder without a server.
"""

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from docs.site.mathematics import plain_text

_SKIPPED = (nodes.math_block, nodes.section, nodes.title, nodes.comment, nodes.raw)


def sections(docname: str, doctree: nodes.document) -> list[list[str]]:
    """Returns address, page, heading, text and code of each section of a page, without the sections inside it."""
    page = next((title.astext() for title in doctree.findall(nodes.title)), docname)
    found = []
    for section in doctree.findall(nodes.section):
        heading = next((child.astext() for child in section.children if isinstance(child, nodes.title)), page)
        anchor = "" if heading == page else f"#{section['ids'][0]}"
        code: list[str] = []
        text = " ".join(_text(child, code) for child in section.children)
        found.append([f"{docname}.html{anchor}", page, heading, " ".join(text.split()), " ".join(code)])
    return found


def _text(node: nodes.Node, code: list[str]) -> str:
    """The text of a node; blocks of code are added to `code` instead."""
    if isinstance(node, _SKIPPED) or "origin" in getattr(node, "get", lambda *_: ())("classes", ()):
        return ""
    if isinstance(node, nodes.literal_block):
        code.append(node.astext())
        return ""
    if isinstance(node, nodes.math):
        return plain_text(node.astext())
    if isinstance(node, nodes.Text):
        return node.astext()
    separator = "" if isinstance(node, nodes.TextElement) else " "
    return separator.join(_text(child, code) for child in node.children)


def write_sections(app: Sphinx, exception: Exception | None) -> None:
    """Writes the sections of all pages to _static/sections.js."""
    if exception is None:
        found = [part for name in sorted(app.env.found_docs) for part in sections(name, app.env.get_doctree(name))]
        script = f"const SECTIONS = {json.dumps(found, ensure_ascii=False)};\n"
        (Path(app.outdir) / "_static/sections.js").write_text(script, encoding="utf-8")


def load_on_search_page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Adds the scripts to the search page alone."""
    if pagename == "search":
        app.add_js_file("sections.js")
        app.add_js_file("section_search.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects both with Sphinx's events."""
    app.connect("html-page-context", load_on_search_page)
    app.connect("build-finished", write_sections)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
