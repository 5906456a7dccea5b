"""The tables of `python -m pipelines.compare` in the terminal."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.compare import main
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.terminal_table import print_table
from pipelines.console.formatting import duration, figure, setting
from tests.command_line import PROJECT
from tests.pipelines.comparison.run_folders import compared, write_run


def _table(comparison: Comparison, width: int | None = None) -> str:
    printed = io.StringIO()
    print_table(comparison, printed, width)
    return printed.getvalue()


def test_the_page_is_written_although_the_table_s_pipe_has_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "logs" / "svm" / "a", [0.5])
    monkeypatch.chdir(tmp_path)

    def closed(comparison: Comparison, group_by: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("pipelines.comparison.terminal_table.print_table", closed)
    with pytest.raises(SystemExit):
        main(["logs"])
    assert (tmp_path / "comparison.html").is_file()


def test_the_table_is_plain_and_whole_when_it_is_piped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    reason = "ValueError: the loss is not finite, " + "very " * 60 + "sorry"
    for i in range(50):
        write_run(tmp_path / "softmax" / f"a-rather-long-name-of-a-run-{i:04}", [i / 100], lr=i / 7, seed=i)
    write_run(tmp_path / "softmax" / "broken", [], "failed", reason)
    table = _table(compared(tmp_path / "softmax"))
    assert "\x1b" not in table and "…" not in table
    lines = table.splitlines()
    assert lines[0].split() == [
        "run",
        "state",
        "best",
        "↑",
        "at",
        "last",
        "lr",
        "seed_everything",
        "max_epochs",
        "took",
    ]
    cells = "1 a-rather-long-name-of-a-run-0049 finished 0.4900 step 9, epoch 0 0.4900 7 49 1 3 min 20 s"
    assert lines[2].split() == cells.split()
    assert len([line for line in lines if "a-rather-long-name" in line]) == 50
    assert f"failed   broken: {reason}; metrics.csv has no values yet" in lines


@pytest.mark.parametrize("width", [70, 100, 160])
def test_the_table_fits_the_screen(tmp_path: Path, width: int) -> None:
    for i in range(60):
        write_run(tmp_path / "softmax" / f"20260101-10000{i:02}-ab", [i / 100], lr=i / 7, reg=i / 3, seed=i)
    table = _table(compared(tmp_path / "softmax"), width)
    assert max(map(len, table.splitlines())) <= width
    assert "20260101-1000059-ab" in table  # never cut
    assert "and 20 more runs, all on the page" in table
    assert "…" not in table
    assert ("settings" in table) == (width < 100)  # in one column


def test_metrics_settings_and_values_in_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    for i, value in enumerate(["[hog]", "[/hog]"]):
        run = write_run(tmp_path / "softmax" / f"[red]{i}", [0.5], command="fit --config my.yaml")
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["model"]["init_args"]["z[/y]"] = value
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        metrics = (run / "metrics.csv").read_text().replace("train/loss", "test/[bold]loss")
        (run / "metrics.csv").write_text(metrics)
    table = _table(compared(tmp_path / "softmax"))
    assert all(text in table for text in ("[red]0", "[red]1", "z[/y]", "[hog]", "[/hog]", "test/[bold]loss")), table


def test_numbers_durations_and_settings_are_formatted() -> None:
    assert [figure(value) for value in (0.97224, 12.5, 1e-7, 3e30, 0.0, None)] == [
        "0.9722", "12.5000", "1.000e-07", "3.000e+30", "0.0000", "–",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (None, 12.4, 59.6, 200, 3900, 187200)] == [
        "–", "12 s", "1 min 00 s", "3 min 20 s", "1 h 05 min", "2 d 04 h",
    ]  # fmt: skip
    assert [setting(value) for value in ("a\nb", "\x1b[2J", "é ü")] == [r'"a\nb"', r'"\u001b[2J"', "é ü"]
    assert [setting(value) for value in (None, True, 0.1 + 0.2, [1, "é"], "Adam", 3)] == [
        "–", "true", "0.3", '[1, "é"]', "Adam", "3",
    ]  # fmt: skip


def test_without_arguments_usage_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    output = capsys.readouterr().out
    assert output.startswith("usage: python -m pipelines.compare PATH_OR_SWEEP...") and "compare upload" in output


def test_it_never_imports_torch_and_its_help_no_heavy_package(tmp_path: Path) -> None:
    write_run(tmp_path / "logs" / "softmax" / "a", pictures=["templates"])
    code = (
        "import sys; from pipelines.compare import main\n"
        "heavy = {'torch', 'lightning', 'wandb', 'plotly', 'rich', 'yaml', 'PIL', 'numpy'}\n"
        "for arguments in (['--help'], ['a', '--ot', 'x'], ['upload', '--help']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "main(['logs'])\n"
        "assert not {'torch', 'lightning', 'wandb'} & set(sys.modules)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
