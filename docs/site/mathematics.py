"""Renders the formulas of a page as MathML while the site is built: browsers show it without a script.

A formula that math-core does not understand is a warning of Sphinx, with its page and line, and fails the build.
"""

import re
from html import escape, unescape

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_CONVERTER = LatexToMathML(fancy_error=False, annotation=False)
_LOGGER = logging.getLogger(__name__)


def render(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Writes a formula as a `<math>` element; a block formula can be scrolled if the screen is narrow."""
    block, formula = isinstance(node, nodes.math_block), node.astext()
    try:
        mathml = _CONVERTER.convert_with_local_state(formula, displaystyle=block)
    except LatexError as error:
        reason = re.sub(r"^\d+: ", "", " ".join(str(error).split()))
        _LOGGER.warning("the formula %s can't be rendered: %s", " ".join(formula.split()), reason, location=node)
        mathml = ""
    tex = escape(" ".join(formula.split()))
    tag = "div" if block else "span"
    translator.body.append(f'<{tag} class="formula" data-tex="{tex}">{mathml}</{tag}>')
    raise nodes.SkipNode


def plain_text(formula: str) -> str:
    """Returns the symbols of a formula in a line, for the search's excerpts; nothing if it can't be rendered."""
    try:
        mathml = _CONVERTER.convert_with_local_state(formula, displaystyle=False)
    except LatexError:  # `render` warns of it
        return ""
    return unescape(re.sub(r"<[^>]+>", "", mathml))


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer under the name that conf.py chooses."""
    app.add_html_math_renderer("mathml", inline_renderers=(render, None), block_renderers=(render, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
