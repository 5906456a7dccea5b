"""Makes a W&B report of the comparison and a saved workspace for each group, from the runs in the user's project."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from common.errors import UserError
from common.messages.reasons import reason_of
from common.proxy import pass_on_all_proxy
from pipelines.comparison.group import Group
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.runs import Run
from pipelines.tracking.secrets import without_passwords
from pipelines.tracking.wandb_mode import logged_in, server_name
from pipelines.tracking.wandb_options import wandb_project
from pipelines.tracking.wandb_settings import wandb_setting

_MAX_TITLE_LENGTH = 128  # accepted by W&B
# What servers answer that know neither reports nor workspaces; GraphQL gives such errors no code of their own.
_UNKNOWN = re.compile(r"unknown (operation|type|argument|field)|cannot query field|upsertview", re.IGNORECASE)


def check_wandb() -> None:
    """Checks what a report needs before any work is done.

    Raises:
        UserError: If the user is not logged in, or wandb-workspaces is not installed.
    """
    if not logged_in():
        raise UserError("You are not logged in to W&B, so there can be no report; run `wandb login` first.")
    try:
        import wandb_workspaces.reports.v2  # noqa: F401
    except ImportError as error:
        raise UserError("A W&B report needs wandb-workspaces; run `pip install wandb-workspaces`.") from error
    pass_on_all_proxy()


def make_report(comparison: Comparison) -> str:
    """Saves a report with the runs and panels of each group, in the project that the runs are tracked in.

    Returns:
        URL of the report.

    Raises:
        UserError: If the server refuses the report, or has none.
    """
    import wandb_workspaces.reports.v2 as wr

    with _refusals("report"):
        entity, project = _place(comparison.runs)
        report = wr.Report(
            project=project,
            entity=entity,
            title=f"Comparison: {comparison.title}"[:_MAX_TITLE_LENGTH],
            description=comparison.summary,
            blocks=blocks(comparison),
            width="fluid",
        )
        report.save()
    return without_passwords(report.url)


def blocks(comparison: Comparison) -> list[Any]:
    """Returns the content of the report: a run table and panels for each group, with headings if there are several."""
    import wandb_workspaces.reports.v2 as wr

    from pipelines.comparison.wandb_panels import columns, only_runs, order, sections

    found: list[Any] = [wr.TableOfContents()] if len(comparison.groups) > 1 else []
    for group in comparison.groups:
        if len(comparison.groups) > 1:
            found += [wr.H1(group.title), wr.P(group.summary)]
        entity, project = _place(group.runs)
        runset = wr.Runset(
            entity=entity, project=project, name=group.title, filters=only_runs(group), order=order(group),
            visible_columns=columns(group), column_order=columns(group),
        )  # fmt: skip
        found.append(wr.PanelGrid(runsets=[runset], panels=[each for part in sections(group) for each in part.panels]))
    return found


def make_workspace(group: Group) -> str:
    """Saves a workspace for all runs of a group's topic and data set, those to come included.

    Returns:
        URL of the workspace.

    Raises:
        UserError: If the server refuses the workspace, or has none.
    """
    import wandb_workspaces.workspaces as ws

    from pipelines.comparison.wandb_panels import MAX_RUNS, sections
    from pipelines.syncing.arrived import STEP

    ranking = group.ranking_metric
    order = [ws.Ordering(ws.Summary(ranking.name), ascending=ranking.goal == "minimize")] if ranking else []
    with _refusals("workspace"):
        runs = ws.RunsetSettings(
            filters=[ws.Tags().isin([tag]) for tag in (group.topic, group.data) if tag],  # those of every run
            order=order,
        )
        entity, project = _place(group.runs)
        workspace = ws.Workspace(
            name=group.title,
            entity=entity,
            project=project,
            sections=[ws.Section(part.title, panels=part.panels, is_open=True) for part in sections(group)],
            settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=MAX_RUNS),
            runset_settings=runs,
        )
        workspace.save()
    return without_passwords(workspace.url)


def _place(runs: Sequence[Run]) -> tuple[str, str]:
    """Entity and project that most of the runs were tracked in, by their own keys or W&B's settings."""
    import wandb

    def most(key: str) -> str | None:
        values = Counter(value for run in runs if isinstance(value := run.settings.get(key), str))
        return next((value for value, _ in values.most_common(1)), None)

    entity = most("wandb.entity") or wandb_setting("entity") or wandb.Api().default_entity or ""
    return entity, most("wandb.project") or wandb_project()


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turns any exception of the layers under wandb-workspaces into one sentence."""
    try:
        yield
    except Exception as error:
        reason = without_passwords(reason_of(error))
        if _UNKNOWN.search(reason):
            raise UserError(
                f"The W&B server {server_name()} can't save a {what}, as W&B's own service can; the page shows the "
                "same runs without it."
            ) from error
        raise UserError(
            f"W&B refused the {what} ({reason}); send runs that were tracked offline with "
            "`python -m pipelines.compare upload`, then try again."
        ) from error
