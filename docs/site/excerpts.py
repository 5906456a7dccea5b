"""Directives of the notes: code, derivations and figures, taken from the repository when the site is built.

    ```{source} modules.linear.linear_svm.LinearSVM.data_loss     a class, function or method, or a file
    ```{derivation} modules.linear.loss_gradients                 a module's docstring, or one part of it (:part:)
    ```{results} svm                                              the rows of a topic in RESULTS.md (:section:)
    ```{table} docs/gan.md                                        the table that begins with the block's text

A name that is not there is an error of Sphinx, with its page and line, and fails the build.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs.site.python_source import NotFound, find_docstring, find_excerpt
from docs.site.source_pages import source_uri
from docs.site.tables import find_rows, find_table


class _Excerpt(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True

    def found(self, find: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a search; what is not found is an error at the line of the directive."""
        try:
            return find(*arguments)
        except NotFound as error:
            raise self.error(f"{self.name}: {error}") from None

    def under_title(self, title: str, uri: str, content: Sequence[nodes.Node], kind: str) -> list[nodes.Node]:
        """Content below a line that says where it comes from."""
        line = nodes.paragraph("", "", nodes.reference("", title, refuri=uri, internal=True), classes=["origin"])
        return [nodes.container("", line, *content, classes=["excerpt", kind])]

    def parsed(self, markdown: str) -> list[nodes.Node]:
        """The nodes of a Markdown text."""
        return self.parse_text_to_nodes(markdown)


class Source(_Excerpt):
    """Code by its dotted name, or a file by its path, below a line that links to the whole file."""

    def run(self) -> list[nodes.Node]:
        excerpt = self.found(find_excerpt, self.arguments[0])
        language = {"py": "python", "yaml": "yaml"}.get(excerpt.file.rpartition(".")[2], "text")
        block = nodes.literal_block(excerpt.text, excerpt.text, language=language)
        uri = source_uri(self.env, excerpt.file, excerpt.first)
        if "/" in self.arguments[0]:
            return self.under_title(excerpt.file, uri, [block], "source")
        return self.under_title(f"{excerpt.file}, lines {excerpt.first}–{excerpt.last}", uri, [block], "source")


class Derivation(_Excerpt):
    """The docstring of a module as text, or the part of it below a bold title."""

    option_spec: ClassVar[Any] = {"part": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        file, text = self.found(find_docstring, self.arguments[0], self.options.get("part"))
        return self.under_title(file, source_uri(self.env, file), self.parsed(text), "derivation")


class Results(_Excerpt):
    """The figures of a topic in RESULTS.md."""

    option_spec: ClassVar[Any] = {"section": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        markdown = self.found(find_rows, "RESULTS.md", self.arguments[0], self.options.get("section"))
        return self.parsed(f"{markdown}\n\nFrom [RESULTS.md](/RESULTS.md), which has the hardware and the settings.")


class Table(_Excerpt):
    """A table of a page, by the beginning of its first line."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        return self.parsed(self.found(find_table, self.arguments[0], "\n".join(self.content)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directives."""
    for name, directive in (("source", Source), ("derivation", Derivation), ("results", Results), ("table", Table)):
        app.add_directive(name, directive, override=True)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
