"""metrics.csv: several writers, resumes, damage and full disks lose no row, and `read_curves` reads what is there."""

import errno
import math
import os
from pathlib import Path

import pytest

from pipelines.tracking.curves import read_curves
from pipelines.tracking.metrics_csv import MetricsCSV


def values(file: Path) -> dict[str, dict[int, float]]:
    """Returns the value at each step of each metric."""
    return {name: {point.step: point.value for point in curve.points} for name, curve in read_curves(file).items()}


def test_columns_are_added_at_the_end_and_rows_kept(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": 0.5, "epoch": 0}, 9)
    logger.log_metrics({"val/accuracy": 0.75, "epoch": 0}, 9)
    logger.log_metrics({'a,"b"\nc': 1.0}, 10)
    assert logger.file.read_bytes() == (
        b'step,train/loss,epoch,val/accuracy,"a,""b"" c"\r\n9,0.5,0,,\r\n9,,0,0.75,\r\n10,,,,1.0\r\n'
    )
    assert values(logger.file) == {"train/loss": {9: 0.5}, "val/accuracy": {9: 0.75}, 'a,"b" c': {10: 1.0}}


def test_what_another_writer_adds_is_kept_and_its_columns_are_used(tmp_path: Path) -> None:
    fit, test = MetricsCSV(tmp_path, 0), MetricsCSV(tmp_path)
    fit.begin()
    fit.log_metrics({"train/loss": 0.5}, 0)
    test.log_metrics({"test/accuracy": 0.25, "test/images": 360}, 1)
    fit.log_metrics({"train/loss": 0.4}, 2)
    fit.log_metrics({"val/accuracy": 0.75}, 2)
    test.log_metrics({"test/accuracy": 0.3, "test/images": 360}, 3)
    fit.file.write_text(fit.file.read_text().replace("0.4", "0.125"))  # an editor, in place
    fit.log_metrics({"train/loss": 0.3}, 4)
    assert values(fit.file) == {
        "train/loss": {0: 0.5, 2: 0.125, 4: 0.3},
        "test/accuracy": {1: 0.25, 3: 0.3},
        "test/images": {1: 360.0, 3: 360.0},
        "val/accuracy": {2: 0.75},
    }
    lengths = {len(line.split(",")) for line in fit.file.read_text().splitlines()}
    assert lengths == {5}  # whole rows, for every other program too


def _log(folder: Path, number: int, start: int) -> None:
    os.read(start, 1)  # until the parent closes its end
    logger = MetricsCSV(folder)
    for step in range(100):
        logger.log_metrics({f"of/{number}": float(step)}, step)
        if step % 10 == 0:
            logger.log_metrics({f"of/{number}/{step}": 1.0}, step)  # a column more


def test_processes_at_once_lose_no_row(tmp_path: Path) -> None:
    start, begin = os.pipe()
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            os.close(begin)
            try:
                _log(tmp_path, number, start)
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(start)
    os.close(begin)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    found = values(tmp_path / "metrics.csv")
    for number in range(3):
        assert found[f"of/{number}"] == {step: float(step) for step in range(100)}
        assert all(found[f"of/{number}/{step}"] == {step: 1.0} for step in range(0, 100, 10))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv"]


def test_a_resumed_run_replaces_later_rows_after_its_first_step_and_keeps_tests_of_its_checkpoint(
    tmp_path: Path,
) -> None:
    first = MetricsCSV(tmp_path, 0)
    first.begin()
    for step in range(10):
        first.log_metrics({"train/loss": float(step)}, step)
    MetricsCSV(tmp_path).log_metrics({"test/loss": 0.5}, 6)
    MetricsCSV(tmp_path).log_metrics({"test/loss": 0.7}, 10)
    before = first.file.read_bytes()
    resumed = MetricsCSV(tmp_path, 6)
    resumed.log_metrics({"lr": 0.1}, 6)
    assert first.file.read_bytes() == before  # it may still fail
    resumed.finalize("failed")
    assert first.file.read_bytes() == before
    resumed.begin()
    resumed.log_metrics({"train/loss": 60.0}, 6)
    assert values(first.file) == {
        "train/loss": {**{step: float(step) for step in range(6)}, 6: 60.0}, "test/loss": {6: 0.5}, "lr": {6: 0.1},
    }  # fmt: skip


@pytest.mark.parametrize("end", [b"39,0.99,3", b'39,"0.9', b"39,\xff"])
def test_a_line_cut_by_a_kill_is_not_continued_by_the_next_one(tmp_path: Path, end: bytes) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": 0.5, "epoch": 0}, 9)
    with logger.file.open("ab") as file:
        file.write(end)
    MetricsCSV(tmp_path).log_metrics({"train/loss": 0.25, "epoch": 1}, 19)
    assert values(logger.file) == {"train/loss": {9: 0.5, 19: 0.25}}


@pytest.mark.parametrize(
    "damage",
    [b"1\xff2,0.5\r\n", b"x" * 200_000 + b",1\r\n", b'"' + b"y" * 200_000 + b"\r\n", b"\xc2\xb2,1.0\r\n",
     b"9" * 5000 + b",1.0\r\n", b"nan,1.0\r\n", b"\0,\0\r\n", b"1,2,3,4\r\n", b"\r\n"],
    ids=["not UTF-8", "long cell", "open quote", "superscript", "5000 digits", "nan", "zeros", "long row", "empty"],
)  # fmt: skip
def test_damage_costs_no_other_row_on_resume_and_stays_as_it_is(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "metrics.csv"
    file.write_bytes(b"step,train/loss\r\n1,0.5\r\n" + damage + b"2,0.25\r\n3,0.125\r\n")
    assert values(file) == {"train/loss": {1: 0.5, 2: 0.25, 3: 0.125}}
    resumed = MetricsCSV(tmp_path, 3)
    resumed.begin()
    resumed.log_metrics({"train/loss": 7.0}, 3)
    assert values(file) == {"train/loss": {1: 0.5, 2: 0.25, 3: 7.0}}
    assert damage in file.read_bytes()


def test_rows_that_another_version_wrote_under_a_shorter_header_are_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,train/loss,epoch,test/loss\n1,0.5,0,\n1,,0,0.7\n2,0.4,0\n3,0.3,0\n4,0.2\n")
    assert values(file) == {"train/loss": {1: 0.5, 2: 0.4, 3: 0.3}, "test/loss": {1: 0.7}}  # 4 is a line cut by a kill


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_bytes(b"\xef\xbb\xbfstep,train/loss\n1,0.5\n")
    MetricsCSV(tmp_path).log_metrics({"train/loss": 0.25}, 2)
    assert values(file) == {"train/loss": {1: 0.5, 2: 0.25}}


def test_rows_wait_in_memory_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger, pwrite = MetricsCSV(tmp_path, 0), os.pwrite
    logger.begin()
    logger.log_metrics({"train/loss": 1.0}, 0)
    before = logger.file.read_bytes()

    def full(descriptor: int, content: bytes, at: int) -> int:
        if len(content) < 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, content[: len(content) // 2], at)

    monkeypatch.setattr(os, "pwrite", full)
    for step in range(1, 4):
        logger.log_metrics({"train/loss": 1.0}, step)
        assert logger.file.read_bytes() == before
    said = capsys.readouterr().err
    assert said.endswith("metrics.csv: No space left on device; the metrics wait in memory until it can.\n")
    assert said.count("\n") == 1
    with pytest.raises(OSError, match="No space left") as raised:
        logger.finalize("success")
    assert raised.value.filename == str(logger.file)
    monkeypatch.undo()
    logger.log_metrics({"train/loss": 1.0}, 4)
    assert values(logger.file) == {"train/loss": dict.fromkeys(range(5), 1.0)}


def test_a_test_of_a_run_that_may_only_be_read_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.csv").mkdir()  # what root may not write either
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"test/loss": 1.0}, 9)
    logger.finalize("success")
    assert capsys.readouterr().err.endswith("metrics.csv: Is a directory; the metrics are not kept.\n")


def test_values_that_are_not_finite_are_read_as_such(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": math.inf}, 1)
    logger.log_metrics({"train/loss": math.nan}, 2)
    found = values(logger.file)["train/loss"]
    assert found[1] == math.inf and math.isnan(found[2])
