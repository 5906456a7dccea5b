"""Follows runs while they train: writes the page again whenever something has changed, until nothing is running."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.comparison.find_runs import FoundRuns, find_runs
from pipelines.comparison.page import write_page
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
    sleep: Callable[[float], None] = time.sleep,
) -> Comparison | None:
    """Writes the page until no run is running and no launcher of the sweeps is alive, or until Ctrl-C.

    Every page it writes reloads itself; the caller writes the final one.

    Args:
        targets: Folders or names, as for `find_runs`. They may be sweeps whose first trial is about to start.
        out: Path of the HTML file.
        sort: Metric to rank by, as for `compare`.
        seconds: Time between two looks at the runs, and between two reloads of the page, > 0.
        sleep: Waits that long.

    Returns:
        The runs as they were last; None if Ctrl-C came before the first of them.

    Raises:
        UserError: If there are no runs and no launcher that could start some, or no run has the metric `sort`.
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
                        write_page(comparison, out, reload=seconds)
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
    """Formats how many runs are in which state, and the best run with its value."""
    status = f"{comparison.title}: {comparison.summary}"
    best = comparison.best(comparison.runs[0])
    if comparison.ranking_metric is None or best is None:
        return status
    return f"{status}; best {comparison.runs[0].run_id}, {comparison.ranking_metric.name} {figure(best.value)}"
