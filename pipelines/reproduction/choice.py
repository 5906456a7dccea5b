"""Chooses the rows to run, and finds those that can't be run here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import UserError
from pipelines.console.near_names import suggest
from pipelines.reproduction.rows import Row


def choose(rows: Mapping[str, Row], names: Sequence[str], seeds: int, minutes: float | None) -> list[Row]:
    """Returns the rows to run.

    Args:
        rows: All rows by name.
        names: Names of rows; empty for all.
        seeds: Number of seeds of each, ≥ 1.
        minutes: Time for all of them by the recorded times; the shortest are taken first. None for no limit.

    Raises:
        UserError: If there is no row of a name, or none fits.
    """
    for name in names:
        if name not in rows:
            raise UserError(f"There is no row {name!r} in results.yaml; {suggest(name, list(rows))}")
    chosen = [rows[name] for name in dict.fromkeys(names or rows)]
    if minutes is None:
        return chosen
    fitting, left = set[str](), minutes
    for row in sorted(chosen, key=lambda row: row.minutes):
        left -= row.minutes * seeds_of(row, seeds)
        if left < 0:
            break
        fitting.add(row.name)
    if not fitting:
        shortest = min(chosen, key=lambda row: row.minutes)
        raise UserError(
            f"No row takes at most {minutes:g} minutes; the shortest, {shortest.name}, takes {shortest.minutes:g}."
        )
    return [row for row in chosen if row.name in fitting]


def seeds_of(row: Row, seeds: int) -> int:
    """Returns how many of a row's seeds are run with --seeds `seeds`."""
    return min(seeds, len(row.seeds))


def missing_for(row: Row) -> list[str]:
    """Returns the files that a row needs and that are not in the working folder."""
    return [name for name in row.needs if not Path(name).exists()]
