"""The report of a reproduction: a table for the terminal, and a Markdown file with the machine and the runs."""

import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from common.atomic_files import atomic_write
from pipelines.reproduction.repetition import Repetition
from pipelines.reproduction.rows import Row

_HEADER = ("row", "seed", "metric", "recorded", "measured", "difference", "tolerance", "minutes", "")


def table(repetitions: Sequence[Repetition], skipped: Mapping[str, str]) -> list[list[str]]:
    """Returns the lines of the table, the header first.

    Args:
        repetitions: What was run.
        skipped: Why rows were not run, by their names.
    """
    lines = [list(_HEADER)]
    for done in repetitions:
        row, recorded = done.row, done.row.figure(done.seed)
        measured = difference = "–"
        if done.value is not None:
            measured, difference = f"{done.value:.4f}", f"{done.value - recorded:+.4f}"
        verdict = "agrees" if done.agrees else "failed" if done.value is None else "differs"
        lines.append([
            row.name, str(done.seed), row.metric, f"{recorded:.4f}", measured, difference, f"{row.tolerance:g}",
            f"{done.minutes:.1f}", verdict,
        ])  # fmt: skip
    return lines + [[name, *["–"] * 7, reason] for name, reason in skipped.items()]


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Returns a table for the terminal."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def write_report(file: Path, lines: Sequence[Sequence[str]], notes: Sequence[str], runs: Sequence[Repetition]) -> None:
    """Writes the table with the machine, the versions and each run's folder and commands.

    Args:
        file: Markdown file to write.
        lines: Lines of the table.
        notes: Remarks, such as on other data.
        runs: What was run.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "torchmetrics"))
    machine = f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    text = ["# Figures of results.yaml, run anew", "", f"{machine}; {versions}.", ""]
    text += [f"- {note}" for note in notes] + [""] * bool(notes)
    text += ["| " + " | ".join(lines[0]) + " |", "| " + " | ".join("---" for _ in lines[0]) + " |"]
    text += ["| " + " | ".join(line) + " |" for line in lines[1:]]
    text += ["", *(f"- {done.row.name}, seed {done.seed}: `{done.run}`, {commands(done.row)}" for done in runs), ""]
    with atomic_write(file) as temporary:
        temporary.write_text("\n".join(text), encoding="utf-8")


def commands(row: Row) -> str:
    """Returns the commands of a row as Markdown."""
    return ", ".join(f"`python -m pipelines.train {shlex.join(words)}`" for words in row.run)


def processor() -> str:
    """Returns the name of the processor, or the architecture if the system has no name for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
