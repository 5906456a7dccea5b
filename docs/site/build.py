"""Builds the site of the notes with Sphinx: `make notes`, or python -m docs.site.build from the repository's folder.

A formula that can't be rendered, a name that the source does not have, a missing picture and a dead link are all
warnings of Sphinx; each is printed as one line, and then nothing is written.
"""

import argparse
import re
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from common.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
_PACKAGES = ("sphinx", "myst_parser", "furo", "math_core", "ziamath")
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_MARK = "searchindex.js"  # a folder that has it is a site, and may be replaced


def build(out: Path, project: Path = PROJECT) -> None:
    """Builds the site in a folder that is new, empty or a site.

    Args:
        out: Folder of the site.
        project: Folder with the pages, docs/notes/index.md among them.

    Raises:
        UserError: If the generator is not installed, a page has a mistake, or the folder has other files.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise UserError(
            f"The notes need {' and '.join(missing)}, which pip has not installed here; run make notes, or pip install "
            "-r requirements-notes.txt."
        )
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    if out.exists() and not (out.is_dir() and ((out / _MARK).exists() or not any(out.iterdir()))):
        raise UserError(f"{out} exists and is not a site of notes; choose another folder with --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    warnings = StringIO()
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        site, cache = Path(folder) / "site", Path(folder) / "cache"
        try:
            settings = str(PROJECT / "docs/site")
            with patch_docutils(settings), docutils_namespace():  # so that a process can build twice
                app = Sphinx(str(project), settings, str(site), str(cache), "html", status=None, warning=warnings)
                app.build(force_all=True)
        except SphinxError as error:
            raise UserError(f"The notes can't be built: {error}") from error
        if problems := _COLORS.sub("", warnings.getvalue()).strip():
            lines = [_sentence(line, project) for line in problems.splitlines() if line.strip()]
            raise UserError("\n".join(dict.fromkeys(lines)))
        if out.exists():
            shutil.rmtree(out)
        site.rename(out)


def _sentence(line: str, project: Path) -> str:
    """A warning of Sphinx, with the page's path from the repository's folder and without Sphinx's own terms."""
    line = line.replace(f"{project}/", "")
    return re.sub(r" (?:WARNING|ERROR|CRITICAL|SEVERE): ", " ", re.sub(r" \[[\w.]+\]$", "", line))


def main(arguments: list[str] | None = None) -> int:
    """Builds the site and returns the exit status: 2 after a mistake in a page or on the command line."""
    parser = argparse.ArgumentParser(prog="python -m docs.site.build", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/notes"), help="folder of the site (%(default)s)")
    out = parser.parse_args(arguments).out
    began = time.monotonic()
    try:
        build(out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pages = len(list(out.rglob("*.html")))
    print(f"{pages} pages in {time.monotonic() - began:.0f} s; open {out / 'index.html'}, which needs no network")
    return 0


if __name__ == "__main__":
    sys.exit(main())
