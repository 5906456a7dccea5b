"""Follows runs while they train: writes the page again whenever something has changed, until nothing is running."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.comparison.find_runs import FoundRuns, find_runs
from pipelines.comparison.page.write import write_page
from pipelines.comparison.ranking import Comparison, compare
from pipelines.comparison.run_cache import RunCache
from pipelines.comparison.status_line import StatusLine
from pipelines.console.formatting import figure
from pipelines.search.locks import any_alive


def watch(
    targets: Sequence[str],
    out: Path,
    sort: str | None,
    seconds: float,
    group_by: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Comparison | None:
    """Writes the page until no run is running and no launcher of the sweeps is alive, or until Ctrl-C.

    Every page it writes reloads itself; the caller writes the final one.

    Args:
        targets: Folders or names, as for `find_runs`. They may be sweeps whose first trial is about to start.
        out: Path of the HTML file.
        sort: Metric to rank by, as for `compare`.
        seconds: Time between two looks at the runs, and between two reloads of the page, > 0.
        group_by: Settings to average over at first, as for `write_page`.
        sleep: Waits that long.

    Returns:
        The runs as they were last; None if Ctrl-C came before the first of them.

    Raises:
        UserError: If there are no runs and no launcher that could start some, or no run has the metric `sort` or the
            settings `group_by`.
    """
    cache = RunCache()
    comparison = None
    with StatusLine() as line:
        try:
            while True:
                found = find_runs(targets, may_be_empty=True)
                searching = any(any_alive(sweep.folder / "launchers") for sweep in found.sweeps)  # before the runs
                if found.folders:
                    before, comparison = comparison, _compare(found, targets, sort, cache, comparison)
                    if not searching and "running" not in comparison.states:
                        return comparison
                    if comparison != before:
                        write_page(comparison, out, seconds, group_by)
                        if before is None:
                            line.print(f"page  {out}  (open it in a browser; it follows the runs until Ctrl-C here)")
                        line.show(_status(comparison))
                elif searching:
                    line.show(f"{', '.join(sweep.name for sweep in found.sweeps)}: no runs yet")
                else:
                    find_runs(targets)
                sleep(seconds)
        except KeyboardInterrupt:
            return comparison


def _compare(
    found: FoundRuns, targets: Sequence[str], sort: str | None, cache: RunCache, before: Comparison | None
) -> Comparison:
    """Ranks the runs by `sort` as soon as one of them has logged it, and until then as without it.

    Raises:
        UserError: If the runs have metrics at the start, but not this one.
    """
    runs = {folder: cache.read(folder) for folder in found.folders}
    logged = {name for run in runs.values() for name in run.curves}
    waits = sort not in logged and (before is not None or not logged)
    return compare(found, targets, None if waits else sort, runs.__getitem__)


def _status(comparison: Comparison) -> str:
    """Formats how many runs are in which state, and the best run of each group with its value."""
    parts = [f"{comparison.title}: {comparison.summary}"]
    for group in comparison.groups:
        best = group.best(group.runs[0])
        if group.ranking_metric and best:
            topic = f" of {group.title}" if len(comparison.groups) > 1 else ""
            parts.append(f"best{topic} {group.runs[0].run_id}, {group.ranking_metric.name} {figure(best.value)}")
    return "; ".join(parts)
