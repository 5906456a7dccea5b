"""Passes images, tables, histograms and charts to the loggers of a run, each by the logger's own call.

    logger         image        table                   histogram               chart
    W&B            log_image    log_table               wandb.Histogram         wandb.plot_table
    TensorBoard    add_image    –                       add_histogram_raw       –
    MLflow         log_image    log_table               –                       –
    Comet          log_image    log_table, no images    log_histogram_3d        –

All other loggers, such as CSVLogger, take none of these and are left alone. Only rank 0 logs. W&B gets no explicit
step: the x axis of its rows is trainer/global_step, and a step before the last one would be dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CometLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

Cell = str | int | float | np.ndarray  # of a table; an array is an image (H, W, 3) uint8
_COMET_VALUES = 1000  # values by which Comet, which bins them itself, gets a histogram


@dataclass(frozen=True)
class Histogram:
    """Histogram of the values of a tensor.

    Attributes:
        counts: Number of values in each of B bins, (B,).
        edges: Edges of the bins, (B + 1,), ascending: the smallest value, …, the largest.
        mean: Mean of the values.
        std: Standard deviation of the values.
        zeros: Fraction of the values that are exactly 0, in [0, 1].
    """

    counts: np.ndarray
    edges: np.ndarray
    mean: float
    std: float
    zeros: float


@dataclass(frozen=True)
class Chart:
    """A chart that W&B draws in the browser from a table, by one of its presets.

    Attributes:
        preset: Name of the preset, such as "wandb/confusion_matrix/v1".
        columns: Names of the table's columns.
        rows: Rows of the table.
        fields: Column that each field of the preset shows.
        texts: Texts of the preset, such as its title.
    """

    preset: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    fields: Mapping[str, str]
    texts: Mapping[str, str]


def step_of(trainer: Trainer) -> int:
    """Returns the step that media belong to: in a test, that of the checkpoint."""
    return trainer.global_step or trainer.fit_loop.epoch_loop._batches_that_stepped


def log_image(trainer: Trainer, name: str, picture: np.ndarray, caption: str = "") -> None:
    """Logs a picture (H, W, 3) uint8."""
    for logger in _loggers(trainer):
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], caption=[caption])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, step_of(trainer), dataformats="HWC")
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, picture, key=name, step=step_of(trainer))
        elif isinstance(logger, CometLogger):
            logger.experiment.log_image(picture, name=name, step=step_of(trainer))


def log_table(trainer: Trainer, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Logs a table.

    Args:
        trainer: Trainer of the run.
        name: Name of the table.
        columns: Names of the columns.
        rows: Rows with a cell for each column.
    """
    for logger in _loggers(trainer):
        if isinstance(logger, WandbLogger):
            from wandb import Image as WandbImage

            cells = [[WandbImage(c) if isinstance(c, np.ndarray) else c for c in row] for row in rows]
            logger.log_table(name, list(columns), cells)
        elif isinstance(logger, MLFlowLogger):  # a table of an existing name would be continued
            by_column = {
                column: [Image.fromarray(c) if isinstance(c, np.ndarray) else c for c in cells]
                for column, cells in zip(columns, zip(*rows, strict=True), strict=True)
            }
            logger.experiment.log_table(logger.run_id, by_column, f"{name}/{step_of(trainer):08d}.json")
        elif isinstance(logger, CometLogger):
            texts = [i for i in range(len(columns)) if not any(isinstance(row[i], np.ndarray) for row in rows)]
            logger.experiment.log_table(
                f"{name}/{step_of(trainer):08d}.csv",
                tabular_data=[[row[i] for i in texts] for row in rows],
                headers=[columns[i] for i in texts],
            )


def log_histograms(trainer: Trainer, histograms: Mapping[str, Histogram]) -> None:
    """Logs histograms by name at the current step of training."""
    step = trainer.global_step
    for logger in _loggers(trainer):
        if isinstance(logger, WandbLogger):
            from wandb import Histogram as WandbHistogram

            values: Any = {
                name: WandbHistogram(np_histogram=(histogram.counts, histogram.edges))
                for name, histogram in histograms.items()
            }
            logger.log_metrics(values, step)
        elif isinstance(logger, TensorBoardLogger):
            for name, histogram in histograms.items():
                number = int(histogram.counts.sum())
                logger.experiment.add_histogram_raw(
                    name,
                    min=histogram.edges[0],
                    max=histogram.edges[-1],
                    num=number,
                    sum=number * histogram.mean,
                    sum_squares=number * (histogram.std**2 + histogram.mean**2),
                    bucket_limits=histogram.edges[1:],
                    bucket_counts=histogram.counts,
                    global_step=step,
                )
        elif isinstance(logger, CometLogger):
            for name, histogram in histograms.items():
                centers = (histogram.edges[1:] + histogram.edges[:-1]) / 2
                shares = _COMET_VALUES * histogram.counts / histogram.counts.sum()
                logger.experiment.log_histogram_3d(
                    np.repeat(centers, np.ceil(shares).astype(int)), name=name, step=step
                )


def log_chart(trainer: Trainer, name: str, chart: Chart) -> None:
    """Logs a chart; W&B keeps its table as `<name>_table`."""
    for logger in _loggers(trainer):
        if isinstance(logger, WandbLogger):
            from wandb import Table, plot_table

            table = Table(columns=list(chart.columns), data=[list(row) for row in chart.rows])
            panel: Any = plot_table(chart.preset, table, dict(chart.fields), dict(chart.texts))
            logger.log_metrics({name: panel})


def _loggers(trainer: Trainer) -> Sequence[Any]:
    return trainer.loggers if trainer.is_global_zero else []
