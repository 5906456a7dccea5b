"""Names of results, tables, and checks of where they are to be written."""

import os
from pathlib import Path

import pytest

from common.errors import UserError
from pipelines.console.outputs import check_out_file, check_out_folder, path_cell, unique_names, write_csv


@pytest.mark.parametrize(
    ("files", "suffixes", "taken", "names"),
    [
        (["a/cat.jpg", "b/dog.png"], [""], [], ["cat", "dog"]),
        (["a/cat.jpg", "b/cat.png"], [""], [], ["cat_0", "cat_1"]),
        (["a/cat.jpg", "b/Cat.png"], [""], [], ["cat_0", "Cat_1"]),  # some file systems ignore case
        (["a.jpg", "b/a.jpg", "a_1.jpg"], [""], [], ["a_0", "a_1", "a_1_2"]),
        (["cat.jpg", "cat_fooled.jpg"], ["", "_fooled"], [], ["cat", "cat_fooled_1"]),
        (["patches_x.png"], [""], ["patches_x"], ["patches_x_0"]),
    ],
)
def test_no_two_results_have_one_name(
    files: list[str], suffixes: list[str], taken: list[str], names: list[str]
) -> None:
    assert unique_names([Path(file) for file in files], suffixes, taken) == names


def test_no_cell_begins_like_a_formula() -> None:
    names = ["=1.png", "+1.png", "-1.png", "@a.png", "\t.png", "a=.png", "photos/=1.png"]
    cells = [path_cell(Path(name)) for name in names]
    assert cells == ["./=1.png", "./+1.png", "./-1.png", "./@a.png", "./\t.png", "a=.png", "photos/=1.png"]
    assert [Path(cell) for cell in cells] == [Path(name) for name in names]


def test_tables_keep_the_bytes_of_names(tmp_path: Path) -> None:
    write_csv([["image"], ["caf\udce9"], ["café"]], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == b"image\r\ncaf\xe9\r\ncaf\xc3\xa9\r\n"
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_out_file(tmp_path / "new" / "folder" / "a.csv")
    check_out_folder(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for check in (check_out_file, check_out_folder):
        with pytest.raises(UserError, match=rf"a can't be written, because {tmp_path} may only be read; choose anot"):
            check(tmp_path / "b" / "a")
