"""The runs and panels of one group on W&B, the same in a report and in a saved workspace."""

import re
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.reports.v2 as wr
from wandb_workspaces.reports.v2.internal import Column

from pipelines.comparison.averages import is_seed
from pipelines.comparison.group import Group
from pipelines.comparison.page.pictures import is_made_of_pictures
from pipelines.syncing.arrived import STEP
from pipelines.tracking.run_id import wandb_run_id

MAX_RUNS = 100  # of a panel, as W&B allows
_MAX_COLUMNS = 8  # of the parallel coordinates
_TABLE_FILE = re.compile(r"(.+)_\d+_[0-9a-f]+\.table\.json")  # name, step and digest
_LEAST_RUNS = 3  # for panels that relate settings to the metric


@dataclass(frozen=True)
class Section:
    """Panels that belong together.

    Attributes:
        title: Heading.
        panels: The panels, of wandb-workspaces.
    """

    title: str
    panels: list[Any]


class _Setting(wr.ParallelCoordinatesPlotColumn):
    """A setting with dots in its name: wandb-workspaces reads them as nesting, but W&B has our settings flat."""

    def _to_model(self) -> Column:
        assert isinstance(self.metric, wr.Config)
        return Column(accessor=f"config:{self.metric.name}.value", display_name=self.display_name, log=self.log)


def sections(group: Group) -> list[Section]:
    """Returns the panels that suit a group: metric and curves, pictures and tables, settings.

    Where a topic is made of pictures, such as samples or captions, these come first.
    """
    ranking = group.ranking_metric
    curves = [name for name in group.metrics if name.split("/")[0] in ("train", "val") and name.count("/") == 1]
    curves = list(dict.fromkeys([*([ranking.name] if ranking and ranking.name in group.metrics else []), *curves]))
    found = [
        Section("Curves", [_metric(group, name) for name in curves]),
        Section("Pictures", [*_pictures(group), *_tables(group)]),
        Section("Settings", _settings(group)),
    ]
    if is_made_of_pictures(group):
        found.sort(key=lambda section: section.title != "Pictures")
    return [section for section in found if section.panels]


def _pictures(group: Group) -> list[Any]:
    """For each series of pictures, a grid with a row for each run and the steps from left to right."""
    series = dict.fromkeys(name for run in group.runs for name in run.pictures)
    return [
        wr.MediaBrowser(title=name, media_keys=[name], mode="grid", grid_x_axis="step", grid_y_axis="run")
        for name in series
    ]


def _tables(group: Group) -> list[Any]:
    """A panel for each `wandb.Table` of which the runs' own W&B files have a copy."""
    names: dict[str, None] = {}
    for run in group.runs:
        for media in (run.folder / "wandb").glob("*/files/media/table"):
            files = (file.relative_to(media).as_posix() for file in sorted(media.rglob("*.table.json")))
            names |= {found[1]: None for file in files if (found := _TABLE_FILE.fullmatch(file))}
    return [wr.WeavePanelSummaryTable(table_name=name) for name in names]


def _metric(group: Group, name: str) -> Any:
    """A curve over the steps; bars where no run has more than one value."""
    if all(len(run.curves[name].points) == 1 for run in group.runs if name in run.curves):
        return wr.BarPlot(title=name, metrics=[name], max_runs_to_show=_max_runs(group))
    return wr.LinePlot(title=name, x=STEP, y=[name], max_runs_to_show=_max_runs(group))


def _settings(group: Group) -> list[Any]:
    panels: list[Any] = []
    ranking = group.ranking_metric
    searched = [key for key in group.settings if not is_seed(key)][:_MAX_COLUMNS]
    if ranking and searched and sum(group.best(run) is not None for run in group.runs) >= _LEAST_RUNS:
        names = group.short_names
        columns: list[Any] = [
            _Setting(metric=wr.Config(key), display_name=names[key], log=_spans_decades(group, key)) for key in searched
        ]
        columns.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(ranking.name)))
        panels += [wr.ParallelCoordinatesPlot(title="settings", columns=columns)]
        panels += [wr.ParameterImportancePlot(with_respect_to=ranking.name)]
    return [*panels, wr.RunComparer(diff_only="split")]


def _spans_decades(group: Group, key: str) -> bool:
    """Whether a setting is a positive number whose values span more than two decades."""
    values = [run.settings[key] for run in group.runs if run.settings.get(key) is not None]
    return all(type(value) in (int, float) and value > 0 for value in values) and max(values) > 100 * min(values)


def _max_runs(group: Group) -> int:
    return min(max(10, len(group.runs)), MAX_RUNS)  # W&B's default is ten


def columns(group: Group) -> list[str]:
    """Returns the columns of the run table: state, metric, test metrics and the settings that differ."""
    ranking = group.ranking_metric
    return [
        "run:state",
        *([f"summary:{ranking.name}"] if ranking else []),
        *(f"summary:{metric}" for metric in group.tests),
        *(f"config:{key}.value" for key in group.settings),
    ]


def order(group: Group) -> list[Any]:
    """Returns the order of the run table: by the ranking metric, the best first."""
    ranking = group.ranking_metric
    return [wr.OrderBy(wr.SummaryMetric(ranking.name), ascending=ranking.goal == "minimize")] if ranking else []


def only_runs(group: Group) -> str:
    """Returns the filter that keeps the runs of the group."""
    return f"ID in [{', '.join(repr(wandb_run_id(run.run_id)) for run in group.runs)}]"
