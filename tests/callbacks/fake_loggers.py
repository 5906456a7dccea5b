"""Loggers whose packages are optional, with the calls that their documentation lists, keeping what they are given."""

from typing import Any

import numpy as np
from lightning.pytorch.loggers import CometLogger, MLFlowLogger, TensorBoardLogger

# Parameters of each call as of torch 2.11 (tensorboard), mlflow 3.17 and comet_ml 3.58.


class Calls:
    """Keeps the arguments of calls by name, refusing any that the documentation does not list."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def of(self, name: str) -> list[dict[str, Any]]:
        return [given for called, given in self.calls if called == name]

    def keep(self, name: str, given: dict[str, Any]) -> None:
        self.calls.append((name, {key: value for key, value in given.items() if key != "self"}))


class SummaryWriter(Calls):
    def add_image(self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: float | None = None,
                  dataformats: str = "CHW") -> None:  # fmt: skip
        self.keep("add_image", locals())

    def add_histogram_raw(
        self, tag: str, min: float, max: float, num: int, sum: float, sum_squares: float, bucket_limits: Any,
        bucket_counts: Any, global_step: int | None = None, walltime: float | None = None,
    ) -> None:  # fmt: skip
        assert len(bucket_limits) == len(bucket_counts)
        self.keep("add_histogram_raw", locals())


class MlflowClient(Calls):
    def log_image(
        self, run_id: str, image: Any, artifact_file: str | None = None, key: str | None = None,
        step: int | None = None, timestamp: int | None = None, synchronous: bool | None = None,
    ) -> None:  # fmt: skip
        assert artifact_file is None or key is None
        self.keep("log_image", locals())

    def log_table(self, run_id: str, data: Any, artifact_file: str) -> None:
        assert isinstance(data, dict) and artifact_file.endswith((".json", ".parquet"))
        self.keep("log_table", locals())


class CometExperiment(Calls):
    def log_image(
        self, image_data: Any, name: str | None = None, overwrite: bool = False, image_format: str = "png",
        image_scale: float = 1.0, image_shape: Any = None, image_colormap: str | None = None, image_minmax: Any = None,
        image_channels: str = "last", copy_to_tmp: bool = True, step: int | None = None, annotations: Any = None,
        metadata: Any = None,
    ) -> None:  # fmt: skip
        self.keep("log_image", locals())

    def log_table(self, filename: str, tabular_data: Any = None, headers: Any = False, **format_kwargs: Any) -> None:
        assert filename.endswith((".csv", ".tsv")) and not format_kwargs
        self.keep("log_table", locals())

    def log_histogram_3d(
        self, values: Any, name: str | None = None, step: int | None = None, epoch: int | None = None,
        metadata: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        assert np.asarray(values).size and not kwargs
        self.keep("log_histogram_3d", locals())


class FakeTensorBoard(TensorBoardLogger):
    def __init__(self) -> None:
        self.writer = SummaryWriter()

    @property
    def experiment(self) -> Any:
        return self.writer


class FakeMLFlow(MLFlowLogger):
    def __init__(self) -> None:
        self.client = MlflowClient()

    @property
    def experiment(self) -> Any:
        return self.client

    @property
    def run_id(self) -> str:
        return "run-7"


class FakeComet(CometLogger):
    def __init__(self) -> None:
        self.calls = CometExperiment()

    @property
    def experiment(self) -> Any:
        return self.calls
