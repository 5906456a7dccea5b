"""The journal of a sweep: no line can be damaged, lost or added unnoticed, since results would move to other points."""

import json
import random
from pathlib import Path

import pytest

from common.errors import UserError
from pipelines.search.journal import Journal
from pipelines.search.search import Search
from pipelines.search.sweep_file import read_sweep


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a sweep with six finished trials."""
    content = {
        "method": "grid", "metric": {"name": "val/accuracy", "goal": "maximize"}, "command": ["true", "${args}"],
        "parameters": {"x": {"values": [1, 2, 4, 8, 16, 32]}},
    }  # fmt: skip
    (tmp_path / "sweep.yaml").write_text(json.dumps(content))
    search = Search.create(read_sweep(tmp_path / "sweep.yaml"), tmp_path / "logs")
    search.join()
    while (trial := search.next_trial()) is not None:
        search.report(trial.number, [trial.values["x"] / 100])
        search.finish(trial.number, "finished", None, 1.0)
    search.leave()
    return search.folder


def results(folder: Path) -> dict[int, float | None]:
    return {trial.values["x"]: trial.best for trial in Search(folder).trials()}


def test_each_line_that_is_deleted_damaged_or_moved_is_noticed(finished: Path) -> None:
    journal = finished / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    expected = {x: x / 100 for x in (1, 2, 4, 8, 16, 32)}
    assert results(finished) == expected and len(lines) > 30
    rng = random.Random(0)
    for number in range(len(lines)):
        shorter = [*lines[:number], *lines[number + 1 :]]
        flipped = bytearray(lines[number])
        flipped[rng.randrange(len(flipped) - 2)] ^= 1 << rng.randrange(7)
        twice = [*lines[:number], lines[number], *lines[number:]]
        last = number == len(lines) - 1
        for damaged in (*([] if last else [shorter]), [*lines[:number], bytes(flipped), *lines[number + 1 :]], twice):
            journal.write_bytes(b"".join(damaged))
            with pytest.raises(UserError, match="restore the file") as error:
                results(finished)
            assert "journal.log" in str(error.value) and "delete that line" not in str(error.value)
    journal.write_bytes(b"".join(lines))
    assert results(finished) == expected


def test_several_lines_deleted_as_an_editor_does_are_noticed(finished: Path) -> None:
    journal = finished / "journal.log"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([lines[0], *lines[5:]]))
    with pytest.raises(UserError, match=r"journal\.log lacks a line before line 2, or has one too many; restore"):
        Search(finished)


def test_two_writers_and_a_torn_line(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.append_logs([{"op_code": 2, "a": 1}])
    second.append_logs([{"op_code": 2, "a": 2}, {"op_code": 2, "a": 3}])
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b'{"line":3,"op_code":2,"a":4')  # by a process that was killed
    assert [log["a"] for log in first.read_logs(0)] == [1, 2, 3]
    first.append_logs([{"op_code": 2, "a": 5}])
    assert [log["a"] for log in second.read_logs(1)] == [2, 3, 5]
    assert [log["line"] for log in Journal(tmp_path).read_logs(0)] == [0, 1, 2, 3]


def test_a_journal_from_before_there_were_checksums_is_read_and_continued(finished: Path) -> None:
    journal = finished / "journal.log"
    old = []
    for line in journal.read_text().splitlines():
        content = json.loads(line)
        del content["line"], content["crc"]
        if content.get("user_attr", {}).keys() & {"sweep_file", "root", "name"}:
            continue
        old.append(json.dumps(content) + "\n")
    journal.write_text("".join(old[:-3]))
    search = Search(finished)
    assert search.sweep.size == 6 and search.root == finished.parents[2]
    search.join()
    trial = search.next_trial()
    assert trial is not None and trial.number == 5
    search.report(5, [0.32])
    search.finish(5, "finished", None, 1.0)
    assert results(finished)[32] == 0.32
    text = journal.read_text()
    journal.write_text(text.replace('"line"', '"lime"', 1))
    with pytest.raises(UserError, match="damaged in line"):
        Search(finished)


def test_show_needs_no_permission_to_write(finished: Path) -> None:
    (finished / "journal.lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert results(finished)[32] == 0.32
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
