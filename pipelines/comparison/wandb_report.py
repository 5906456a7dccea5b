"""Makes a W&B report of the comparison, from the runs with the same ids in the user's project."""

from typing import Any

from common.errors import UserError
from common.proxy import pass_on_all_proxy
from pipelines.comparison.ranking import Comparison
from pipelines.tracking.run_id import wandb_run_id
from pipelines.tracking.secrets import without_passwords
from pipelines.tracking.wandb_mode import logged_in
from pipelines.tracking.wandb_options import wandb_project
from pipelines.tracking.wandb_settings import wandb_setting

_MAX_TITLE_LENGTH = 128  # accepted by W&B


def make_report(comparison: Comparison) -> str:
    """Saves the report in the project that the runs are tracked in.

    Returns:
        URL of the report.

    Raises:
        ValueError: If the user is not logged in, wandb-workspaces is not installed, or the server refuses the report.
    """
    if not logged_in():
        raise UserError("You are not logged in to W&B, so there can be no report; run `wandb login` first.")
    try:
        import wandb_workspaces.reports.v2 as wr
    except ImportError as error:
        raise UserError("A W&B report needs wandb-workspaces; run `pip install wandb-workspaces`.") from error
    import wandb

    pass_on_all_proxy()
    project = wandb_project()
    try:
        entity = wandb_setting("entity") or wandb.Api().default_entity or ""
        report = wr.Report(
            project=project,
            entity=entity,
            title=f"Comparison: {comparison.title}"[:_MAX_TITLE_LENGTH],
            description=comparison.summary,
            blocks=blocks(comparison, entity, project),
            width="fluid",
        )
        report.save()
    except Exception as error:  # any exception of the layers under wandb-workspaces
        reason = without_passwords((str(error).strip() or type(error).__name__).splitlines()[0]).rstrip(".")
        raise UserError(
            f"W&B refused the report ({reason}); send runs that were tracked offline with "
            "`python -m pipelines.compare upload`, then try again."
        ) from error
    return without_passwords(report.url)


def blocks(comparison: Comparison, entity: str, project: str) -> list[Any]:
    """Returns the content of the report: run table, curves, parameter importance and the differing settings.

    There are no parallel coordinates: wandb-workspaces reads a dot in a setting's name as nesting, but ours are flat.
    """
    import wandb_workspaces.reports.v2 as wr

    ranking = comparison.ranking_metric
    columns = ["run:state"]
    order = []
    if ranking:
        columns.append(f"summary:{ranking.name}")
        order.append(wr.OrderBy(wr.SummaryMetric(ranking.name), ascending=ranking.goal == "minimize"))
    columns += [f"summary:{metric}" for metric in comparison.tests]
    columns += [f"config:{key}.value" for key in comparison.settings]
    ids = ", ".join(repr(wandb_run_id(run.run_id)) for run in comparison.runs)
    runset = wr.Runset(
        entity=entity, project=project, name=comparison.title, filters=f"ID in [{ids}]", order=order,
        visible_columns=columns, column_order=columns,
    )  # fmt: skip
    metrics = list(dict.fromkeys(name for run in comparison.runs for name in run.curves))
    curves = [ranking.name] if ranking else []
    curves += [name for name in metrics if name not in curves and name.split("/")[0] in ("train", "val")]
    max_runs = max(10, len(comparison.runs))  # W&B's default is ten
    panels: list[Any] = [
        wr.LinePlot(title=name, x="trainer/global_step", y=[name], max_runs_to_show=min(max_runs, 100))
        for name in curves
    ]
    if ranking and len(comparison.runs) > 2:
        panels.append(wr.ParameterImportancePlot(with_respect_to=ranking.name))
    panels.append(wr.RunComparer(diff_only="split"))
    return [wr.PanelGrid(runsets=[runset], panels=panels)]
