"""Sphinx's settings of the site that `make notes` builds: its pages are Markdown files of this repository.

The source folder is the repository, so that links and pictures of a page are the same here and on the site.
"""

from importlib.util import find_spec
from pathlib import Path

_ziamath = find_spec("ziamath")
assert _ziamath and _ziamath.origin

project = "Lightning 231n"
root_doc = "docs/notes/index"
include_patterns = [
    "docs/*.md",
    "docs/notes/*.md",
    "benchmarks/README.md",
    "README.md",
    "RESULTS.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = [".*", "build", "data", "logs", "wandb", "**/__pycache__"]
extensions = [
    "myst_parser",
    "docs.site.mathematics",
    "docs.site.excerpts",
    "docs.site.source_pages",
    "docs.site.section_search",
]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # links to headings are spelled as on GitHub
highlight_language = "text"  # of blocks that name no language: commands and what they print

html_theme = "furo"
html_title = project
html_static_path = ["static", str(Path(_ziamath.origin).parent / "fonts")]  # STIX Two Math, SIL Open Font License
html_extra_path = ["extra"]
html_css_files = ["notes.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_use_index = False
html_show_search_summary = False  # a browser refuses to read the pages of a folder, which summaries are taken from
pygments_style = "tango"
pygments_dark_style = "one-dark"
