"""Rows of Markdown tables by the name in their first cell, so that no figure is written twice."""

import re
from posixpath import dirname, join, normpath

from docs.site.python_source import PROJECT, NotFound


def find_rows(file: str, name: str, section: str | None = None) -> str:
    """Returns the tables of a Markdown file with the rows of one topic alone, as Markdown.

    A row belongs to a topic if its first cell has the topic's name as code, or another cell is that name. Tables with a
    column `row`, whose figures `pipelines.reproduce` measures again, are taken alone if there are any. A table of one
    row and more than three columns is returned as pairs of title and value.

    Args:
        file: Path from the repository's folder.
        name: Name in the first cell, such as svm.
        section: Heading of the section to search, without its signs; None searches the whole file.

    Raises:
        NotFound: If the file has no such section, or no such row in it.
    """
    text = (PROJECT / file).read_text(encoding="utf-8")
    if section is not None:
        match = re.search(rf"^(#+) {re.escape(section)}\n(.*?)(?=^#{{1,6}} |\Z)", text, re.M | re.S)
        if not match:
            raise NotFound(f"{file} has no section {section}")
        text = match[2]
    tables = [_chosen_rows(table, name) for table in re.findall(r"^\|.*\n\|[ :|-]+\|\n(?:\|.*\n?)+", text, re.M)]
    found = [rows for rows in tables if len(rows) > 1]
    found = [rows for rows in found if "row" in rows[0]] or found
    if not found:
        raise NotFound(f"{file} has no row of `{name}`" + (f" in section {section}" if section else ""))
    return _from_root("\n\n".join(_as_markdown(rows) for rows in found), file)


def find_table(file: str, beginning: str) -> str:
    """Returns the table of a Markdown file whose first line begins with the given text, as Markdown.

    Raises:
        NotFound: If the file has no such table.
    """
    text = (PROJECT / file).read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(beginning)}.*\n\|[ :|-]+\|\n(?:\|.*\n?)+", text, re.M)
    if not match:
        raise NotFound(f"{file} has no table that begins with {beginning}")
    return _from_root(match[0], file)


def _chosen_rows(table: str, name: str) -> list[list[str]]:
    """The cells of the header and of the rows of a topic."""
    header, _, *rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
    return [header, *(row for row in rows if f"`{name}`" in row[0] or f"`{name}`" in row)]


def _as_markdown(rows: list[list[str]]) -> str:
    header, *body = rows
    if len(body) == 1 and len(header) > 3:
        header, *body = [[title, value] for title, value in zip(header, body[0], strict=True)]
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _from_root(markdown: str, file: str) -> str:
    """Links and pictures relative to a file, made relative to the repository's folder."""

    def moved(match: re.Match[str]) -> str:
        return f"](/{normpath(join(dirname(file), match[1]))}{match[2]})"

    return re.sub(r"\]\((?!\w+:|[#/])([^)#\s]+)((?:#[^)\s]*)?)\)", moved, markdown)
