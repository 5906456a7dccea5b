"""The site of the notes, built once for all processes of a test run, and what its pages contain."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from filelock import FileLock

from docs.site.build import build

PROJECT = Path(__file__).resolve().parents[2]


def built_site(factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the site; the first process that needs it builds it."""
    folder = factory.getbasetemp()
    shared = folder.parent if folder.name.startswith("popen-") else folder
    with FileLock(shared / "notes.lock"):
        if not (shared / "notes").exists():
            build(shared / "notes")
    return shared / "notes"


class Page(HTMLParser):
    """What a page of the site contains.

    Attributes:
        links: Addresses of links, pictures, scripts and styles.
        ids: Ids, and names of anchors.
        code: Text of each block and piece of code.
        formulas: TeX of each formula, and whether a `<math>` element follows.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.code: list[str] = []
        self.formulas: list[tuple[str, bool]] = []
        self._depth = 0
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.links += [values[name] for name in ("href", "src") if name in values]
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if "data-tex" in values:
            self.formulas.append((values["data-tex"], False))
        if tag == "math":
            self.formulas[-1] = (self.formulas[-1][0], True)
        if tag in ("pre", "code"):
            self._depth += 1
            if self._depth == 1:
                self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag in ("pre", "code")

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.code[-1] += data


def typed_commands(page: Page) -> Iterator[tuple[str, str]]:
    """Yields name and arguments of each command of the project on a page, those within a sentence included."""
    for code in page.code:
        joined = re.sub(r"\\\n\s*", " ", code)
        lines = [" ".join(joined.split())] if joined.startswith("python -m ") else joined.splitlines()
        if joined.startswith("python -m ") and "\npython -m " in joined:
            lines = joined.splitlines()
        for line in lines:
            typed = re.sub(r"^\$ |^OMP_NUM_THREADS=\d ", "", re.split(r"\s{2,}#|\s#\s", line)[0].strip())
            if match := re.match(r"(?:python|torchrun --nproc_per_node \d) -m pipelines\.(\w+) ?(.*)", typed):
                yield match[1], match[2]
