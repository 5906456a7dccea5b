"""~ and variables at the start of a path, where no shell replaces them."""

from pathlib import Path

import pytest

from common.errors import UserError
from common.user_paths import expand, user_path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.delenv("NOWHERE", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/data", "{home}/data"),
        ("~", "{home}"),
        ("$SCRATCH/data", "/scratch/me/data"),
        ("${SCRATCH}/data", "/scratch/me/data"),
        ("$SCRATCH", "/scratch/me"),
        ("data", "data"),
        ("data/~/x", "data/~/x"),
        ("data/$SCRATCH", "data/$SCRATCH"),
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x"),
        ("~5 > 3", "~5 > 3"),
    ],
)
def test_what_a_path_means(written: str, meant: str, home: Path) -> None:
    assert expand(written) == meant.format(home=home)
    assert user_path(written) == Path(meant.format(home=home))


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(UserError, match=r"^\$NOWHERE/data begins with the variable NOWHERE, which is not set; set it,"):
        expand("$NOWHERE/data")
