"""The campaign of `python -m tests.campaign`: the same seed gives the same cases, and each kind of fault is found."""

import os
import re
from pathlib import Path
from random import Random
from signal import SIGKILL
from typing import Any

import pytest
import torch

from tests.campaign.campaign import KINDS, Campaign, make_case
from tests.campaign.case import Case, Command, Expect, Kill
from tests.campaign.checkpoints import change
from tests.campaign.damage import damaged_bytes
from tests.campaign.good_files import GOOD_FILES
from tests.campaign.outcome import Judge, origin
from tests.command_line import Started


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_depends_on_seed_kind_and_number_alone(kind: str) -> None:
    first = [make_case(0, kind, number) for number in range(50)]
    assert first == [make_case(0, kind, number) for number in range(50)]
    assert len({(case.label, case.commands) for case in first}) > 35
    assert first != [make_case(1, kind, number) for number in range(50)]
    assert {case.files for case in first} <= GOOD_FILES.keys()


def test_damage_depends_on_its_draw_alone_and_most_of_it_changes_the_file() -> None:
    content = bytes(range(256)) * 40
    drawn = [damaged_bytes(Random(draw)) for draw in range(200)]
    changed = [change(content) for _, change in drawn]
    assert changed == [damaged_bytes(Random(draw))[1](content) for draw in range(200)]
    assert sum(result != content for result in changed) > 190
    assert [change(b"") for _, change in drawn]  # an empty file can be damaged too


def test_an_entry_of_a_checkpoint_changes_as_its_draw_says() -> None:
    def checkpoint() -> dict[str, Any]:
        return {"state_dict": {"w": torch.ones(3)}, "loops": {"fit": {"epoch": 3}}, "epoch": 3}

    words = {change(checkpoint(), Random(draw)) for draw in range(60)}
    assert words == {change(checkpoint(), Random(draw)) for draw in range(60)}
    assert {word.split(" ")[0] for word in words} >= {"state_dict/w", "loops/fit/epoch", "epoch"}


PLANTED = [
    ("traceback", Expect.SENTENCE),
    ("hang", Expect.SENTENCE),
    ("code", Expect.SENTENCE),
    ("leftover", Expect.SENTENCE),
    ("status", Expect.SENTENCE),
    ("sentence", Expect.SENTENCE),
    ("changed", Expect.SENTENCE),
    ("refused", Expect.REFUSED),
    ("careful", Expect.SAME),
    ("accepts", Expect.REFUSED),
    ("accepts", Expect.SAME),
]
FOUND = {"refused": [], "careful": [], "accepts": ["silent"]}


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """A judge of `tests.campaign.planted_faults`, which reads data.txt."""
    monkeypatch.setitem(GOOD_FILES, "data", lambda folder: (folder / "data.txt").write_text("7") and None)
    return Judge(tmp_path, start=_start)


def _start(pipeline: str, arguments: list[str], folder: Path, **environment: str) -> Started:
    return Started("tests.campaign.planted_faults", arguments, folder, {**os.environ, **environment})


def _damage(folder: Path) -> None:
    (folder / "data.txt").write_text("8")


@pytest.mark.parametrize("fault, expect", PLANTED)
def test_each_kind_of_fault_is_found(judge: Judge, tmp_path: Path, fault: str, expect: Expect) -> None:
    case = Case("data", "data.txt is 8", (Command("planted", (fault,)),), _damage, expect)
    if fault == "hang":  # takes the limit
        judge = Judge(tmp_path, limit=0.5, start=_start)
    label, result = judge(case, tmp_path / "case")
    assert label == "data.txt is 8"
    assert [finding.what for finding in result.findings] == FOUND.get(fault, [fault])


@pytest.mark.parametrize(
    "pipeline, fault, found",
    [("check", "explained", []), ("check", "unexplained", ["status"]), ("sample", "explained", ["status"])],
)
def test_status_1_is_right_where_the_command_says_why(
    judge: Judge, tmp_path: Path, pipeline: str, fault: str, found: list[str]
) -> None:
    result = judge(Case("data", "status 1", (Command(pipeline, (fault,)),)), tmp_path / "case")[1]
    assert [finding.what for finding in result.findings] == found
    assert result.accepted == (not found)


@pytest.mark.parametrize(
    "pipeline, line, right",
    [
        ("interpret", "photos/2.png  9 11.7% → not fooled within 200 steps: 6 10.2%, 3 9.9%, change L2 0.571", True),
        ("interpret", "left out of the folders: 4 .ckpt", False),
        ("train", "2 of 9 images can't be read and were left out:", True),
        ("train", "error: killed", False),
        ("sweep", "error: all 2 trials failed, the last: exit status 1: x is {'a': 2}, which is not a number", True),
        ("sweep", "error: all 2 trials failed, the last: exit status 1: x is '3', which is not a number", False),
        ("sweep", "error: all 2 trials failed, the last: exit status 1: FileNotFoundError: values.json", False),
    ],
)
def test_the_lines_that_explain_status_1(pipeline: str, line: str, right: bool) -> None:
    assert Command(pipeline, ()).succeeded(1, f"network  FullyConnectedNet\n{line}\n") is right


def test_a_killed_run_that_ends_otherwise_is_found(judge: Judge, tmp_path: Path) -> None:
    killed = Command("planted", ("killed",), kill=Kill(SIGKILL, 0.3))
    good, other = Command("planted", ("accepts",)), Command("planted", ("refused",))
    case = Case("data", "killed", (killed, good), expect=Expect.SAME, reference=(good,))
    assert judge(case, tmp_path / "resumed")[1].findings == []
    case = Case("data", "killed", (killed,), expect=Expect.SAME, reference=(good,))
    result = judge(case, tmp_path / "not resumed")[1]
    assert result.codes == [-9] and result.findings == []  # a command that was killed has no result
    case = Case("data", "killed", (killed, good), _damage, Expect.SAME, (good,))
    assert [finding.what for finding in judge(case, tmp_path / "other")[1].findings] == ["difference"]
    assert judge(Case("data", "refused", (other,), expect=Expect.SAME), tmp_path / "refused")[1].findings == []


def test_each_distinct_fault_is_reported_once_with_the_command_that_repeats_it(judge: Judge, tmp_path: Path) -> None:
    lines: list[str] = []
    campaign = Campaign(5, lines.append)
    for number, fault in enumerate(["traceback", "traceback", "status"]):
        case = Case("data", f"data.txt {number}", (Command("planted", (fault,)),))
        campaign.judge("configs", number, case, judge, tmp_path / str(number))
    assert len(lines) == 2
    assert lines[0].startswith("traceback  data.txt 0: KeyError: 'optimizer_states'")
    assert lines[0].endswith("[python -m tests.campaign --seed 5 --case configs/0]")
    assert lines[1].startswith("status  data.txt 2: 3 of ")
    counts = dict(
        zip(*(re.split(r"\s{2,}", line.strip()) for line in campaign.summary().splitlines()[:2]), strict=True)
    )
    assert counts["cases"] == "3" and counts["traceback"] == "2" and counts["status"] == "1" and counts["hang"] == "0"


def test_tracebacks_of_the_same_place_are_one_fault() -> None:
    err = 'Traceback (most recent call last):\n  File "/p/pipelines/run/cli.py", line {}, in run\n    x\nKeyError: {}\n'
    assert origin(err.format(5, "'a'")) == origin(err.format(7, "'b'"))
    assert origin(err.format(5, "'a'")) != origin(err.format(5, "'a'").replace("cli", "resume"))


def test_a_refusal_of_what_should_work_and_a_missing_line_are_found(judge: Judge, tmp_path: Path) -> None:
    refused, accepts = Command("planted", ("refused",)), Command("planted", ("accepts",))
    case = Case("data", "refused", (refused,), expect=Expect.RESULT)
    assert [finding.what for finding in judge(case, tmp_path / "refused")[1].findings] == ["refused"]
    for line, found in (("^7$", []), ("^8$", ["difference"])):
        case = Case("data", "prints", (accepts,), expect=Expect.RESULT, prints=line)
        assert [finding.what for finding in judge(case, tmp_path / line)[1].findings] == found
