"""Steps per second of Lightning as this project runs it, against a bare PyTorch loop with the same model and batches.

    python -m benchmarks.trainer_overhead [--root data] [--rounds R] [--steps N] [--convnet_steps N] [--epochs N]

Both sides take batches of 128 from the same data module's loader, standardize them, compute the same loss and step the
same optimizer (SGD with momentum). The Lightning side has all of `pipelines.train fit`: training metrics, metrics.csv,
an offline W&B run (if wandb is installed), the progress bar, TrainingHealth, two checkpoint callbacks and the random
state. The bare loop has no metrics, logs or checkpoints.

N steps in the middle of one long epoch are measured, without startup, validation, checkpoints and the end of the epoch
but with logging, once every 50 steps. `linear` is softmax regression, whose step takes about a millisecond, the worst
case for Lightning's overhead; `convnet` is a small network whose step takes 50 to 150 ms.

`Lightning alone` is a Trainer with everything switched off, on a module that only returns its loss: an upper bound of
the speed of any project on Lightning.

`whole run` is `epochs` epochs of the linear model with N steps each, with all that comes between and behind them:
validation, checkpoints, the pictures of a classifier, and the last of W&B's files. `with panels` adds the table of
predictions, the precision-recall and ROC curves, and histograms of weights, gradients and activations of every epoch.

`chunks of 50` passes the Trainer a list of 50 batches as one batch, for which the module takes 50 steps by manual
optimization, with everything else switched off. docs/fast_recipe.md says why no topic does so.
"""

import argparse
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice, pairwise, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn

from benchmarks.timing import Clock, Comparison, Rate, Variant, one_thread
from callbacks import (
    ConfidentMistakes,
    ConfusionMatrix,
    Histograms,
    PrecisionRecallCurve,
    PredictionTable,
    Templates,
    TrainingHealth,
)
from common.errors import UserError
from datamodules import CIFAR10, ImageDataModule, Shapes
from datamodules.files.official_files import CIFAR10_MEMBERS
from modules import SoftmaxRegression
from modules.base.classifier import Classifier
from pipelines.checkpoints.checkpoint_io import AtomicCheckpointIO
from pipelines.console.lightning_messages import quiet
from pipelines.console.progress_bar import ProgressBar
from pipelines.run.resume import RandomState
from pipelines.tracking.metrics_csv import MetricsCSV
from pipelines.tracking.wandb_run import finish_wandb, start_wandb

LOG_EVERY = 50
WARM_UP = 10  # steps before timing starts
BARE, OURS, ALONE, CHUNKS = "bare loop", "Lightning as we run it", "Lightning alone", "chunks of 50"
WHOLE, PANELS = "whole run", "with panels"
CHUNK = 50  # batches


class Convnet(Classifier):
    """Three convolutions with batch norm and pooling."""

    def __init__(self, num_classes: int, width: int = 24) -> None:
        super().__init__(num_classes)
        widths = (3, width, 2 * width, 4 * width)
        self.layers = nn.Sequential(
            *chain.from_iterable(
                (nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))
                for before, after in pairwise(widths)
            ),
            nn.Flatten(),
            nn.Linear(4 * width * 16, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)


class Alone(L.LightningModule):
    """A minimal LightningModule around a model."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return self.model.loss(self.model(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer_of(self.model)


class InChunks(Alone):
    """A model that takes many steps in one `training_step`.

    Args:
        model: Model to train.
        preprocess: Function of the data module that preprocesses a batch.
    """

    def __init__(self, model: Classifier, preprocess: Callable[[Any, int], tuple[Tensor, Tensor]]) -> None:
        super().__init__(model)
        self.automatic_optimization = False
        self.preprocess = preprocess

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        for part in batch:
            images, labels = self.preprocess(part, 0)
            loss = self.model.loss(self.model(images), labels)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()


class Stopwatch(L.Callback):
    """Times `steps` steps after the first `WARM_UP`, then stops the run."""

    def __init__(self, steps: int) -> None:
        self.first, self.last = WARM_UP, WARM_UP + steps
        self.time = Clock(0.0, 0.0)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self.first:
            self.started = Clock.now()
        elif batch_idx == self.last:
            self.time = Clock.now() - self.started
            trainer.should_stop = True


class Bench:
    """Runs a model on its data in all variants.

    Args:
        data: Data module, after `setup`.
        new_model: Function that returns the model, with the same weights each time.
        steps: Number of measured steps.
        folder: Folder of the run's files.
        loggers: Loggers of the run.
        epochs: Number of epochs of a whole run.
    """

    def __init__(
        self,
        data: ImageDataModule,
        new_model: Callable[[], Classifier],
        steps: int,
        folder: Path,
        loggers: list[Logger],
        epochs: int,
    ) -> None:
        self.data, self.new_model, self.steps, self.folder, self.loggers = data, new_model, steps, folder, loggers
        self.epochs = epochs

    def bare(self) -> Rate:
        """Measures the loop that one would write without Lightning."""
        model = self.new_model()
        optimizer = optimizer_of(model)
        self.data.trainer = None
        batches = iter(self.data.train_dataloader())
        started = Clock.now()
        for step in range(WARM_UP + self.steps):
            if step == WARM_UP:
                started = Clock.now()
            images, labels = self.data.on_after_batch_transfer(next(batches), 0)
            loss = model.loss(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return Rate.of(self.steps, Clock.now() - started)

    def ours(self) -> Rate:
        """Measures the Trainer as `pipelines.train fit` builds it."""
        trainer = self._trainer(logger=self.loggers, enable_progress_bar=True, callbacks=self._callbacks())
        return self._fit_ours(trainer)

    def whole(self, *panels: L.Callback) -> Rate:
        """Measures all epochs of a run with what comes between and behind them.

        Args:
            panels: Callbacks of the run besides those of every classifier.
        """
        pictures = [Templates(every_n_epochs=5), ConfusionMatrix(), ConfidentMistakes()]
        trainer = self._trainer(
            logger=self.loggers,
            enable_progress_bar=True,
            callbacks=[*pictures, *panels, *self._callbacks()],
            max_epochs=self.epochs,
            limit_train_batches=self.steps,
            limit_val_batches=1.0,
        )
        self.stopwatch.last = -1  # it is not stopped
        started = Clock.now()
        self._fit_ours(trainer)
        return Rate.of(self.epochs * self.steps, Clock.now() - started)

    def _callbacks(self) -> list[L.Callback]:
        names = partial(ModelCheckpoint, dirpath=self.folder / "checkpoints", enable_version_counter=False)
        return [
            TrainingHealth(),
            ProgressBar(),
            RandomState(),
            names(filename="best", monitor="val/accuracy", mode="max"),
            names(filename="last", save_on_train_epoch_end=True),
        ]

    def _fit_ours(self, trainer: L.Trainer) -> Rate:
        model = self.new_model()
        model.configure_optimizers = lambda: optimizer_of(model)  # type: ignore[method-assign]  # as the CLI does
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        with redirect_stdout(Terminal()):
            return self._fit(trainer, model)

    def alone(self) -> Rate:
        """Measures Lightning with everything switched off."""
        trainer = self._trainer(logger=False, enable_progress_bar=False, enable_checkpointing=False, callbacks=[])
        return self._fit(trainer, Alone(self.new_model()))

    def chunks(self) -> Rate:
        """Measures Lightning with everything switched off and 50 batches passed as one."""
        trainer = self._trainer(logger=False, enable_progress_bar=False, enable_checkpointing=False, callbacks=[])
        self.stopwatch.first, self.stopwatch.last = 1, 1 + max(1, self.steps // CHUNK)
        self.data.trainer = None
        loader = self.data.train_dataloader()

        def in_chunks() -> Iterator[list[Any]]:
            while True:
                yield list(islice(batches, CHUNK))

        batches = chain.from_iterable(repeat(loader))
        trainer.fit(InChunks(self.new_model(), self.data.on_after_batch_transfer), in_chunks())
        return Rate.of((self.stopwatch.last - 1) * CHUNK, self.stopwatch.time)

    def _trainer(self, callbacks: list[L.Callback], **settings: Any) -> L.Trainer:
        self.stopwatch = Stopwatch(self.steps)
        return L.Trainer(
            accelerator="cpu",
            devices=1,
            num_sanity_val_steps=0,
            log_every_n_steps=LOG_EVERY,
            default_root_dir=self.folder,
            enable_model_summary=False,
            callbacks=[*callbacks, self.stopwatch],
            **{"max_epochs": 1, "limit_val_batches": 0, **settings},
        )

    def _fit(self, trainer: L.Trainer, model: L.LightningModule) -> Rate:
        trainer.fit(model, self.data)
        return Rate.of(self.steps, self.stopwatch.time)


class Terminal(io.StringIO):
    """A terminal that discards the output of the progress bar."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def main(arguments: Sequence[str] | None = None) -> dict[str, Comparison]:
    parser = argparse.ArgumentParser(description="Steps per second of this project's Trainer and of a bare loop.")
    parser.add_argument("--root", default="data", help="folder of the data sets")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=300, help="steps per measurement of the linear model")
    parser.add_argument("--convnet_steps", type=int, default=50, help="steps per measurement of the convnet")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of a whole run of the linear model")
    parser.add_argument("--batch_size", type=int, default=128)
    options = parser.parse_args(arguments)
    quiet()
    steps = {"linear": options.steps, "convnet": options.convnet_steps}
    comparisons = {}
    with one_thread(), TemporaryDirectory() as folder, tracked(Path(folder)) as loggers:
        data = training_data(options.root, options.batch_size, WARM_UP + max(steps.values()) + 1)
        models: dict[str, Callable[[], Classifier]] = {
            "linear": partial(SoftmaxRegression, data.input_shape, data.num_classes),
            "convnet": partial(Convnet, data.num_classes),
        }
        for name, new_model in models.items():
            bench = Bench(data, partial(seeded, new_model), steps[name], Path(folder), loggers, options.epochs)
            variants = {BARE: Variant(bench.bare), OURS: Variant(bench.ours), ALONE: Variant(bench.alone)}
            if name == "linear":
                variants[CHUNKS] = Variant(bench.chunks)
                panels = (PredictionTable, PrecisionRecallCurve, Histograms)
                variants[WHOLE] = Variant(bench.whole)
                variants[PANELS] = Variant(partial(whole_with, bench, panels))
            comparisons[name] = Comparison(variants, options.rounds)
    report(comparisons)
    return comparisons


def whole_with(bench: Bench, panels: Sequence[Callable[[], L.Callback]]) -> Rate:
    return bench.whole(*(panel() for panel in panels))


def seeded(new_model: Callable[[], Classifier]) -> Classifier:
    torch.manual_seed(0)
    return new_model()


def training_data(root: str, batch_size: int, steps: int) -> ImageDataModule:
    """Returns CIFAR-10, or Shapes if its files are missing, with at least `steps` batches in an epoch."""
    data: ImageDataModule = CIFAR10(root=root, batch_size=batch_size)
    if not all((data.root / "cifar-10-batches-py" / name).is_file() for name in CIFAR10_MEMBERS):
        print(f"No CIFAR-10 files in {root}: measuring on drawn Shapes images instead.")
        data = Shapes(num_train=steps * batch_size, num_test=10, batch_size=batch_size, val_fraction=0.0)
    data.setup("fit")
    if len(data.train_dataloader()) < steps:
        raise UserError(
            f"An epoch has {len(data.train_dataloader())} batches of {batch_size}, too few for {steps} steps of which "
            f"{WARM_UP} are not measured; use fewer --steps or a smaller --batch_size."
        )
    return data


@contextmanager
def tracked(folder: Path) -> Iterator[list[Logger]]:
    """Yields the loggers of a run: metrics.csv and, if wandb is installed, an offline W&B run."""
    loggers: list[Logger] = [MetricsCSV(folder)]
    if find_spec("wandb") is None:
        print("wandb is not installed: measuring without it.")
        yield loggers
        return
    logger = start_wandb(folder, "overhead", {"project": "benchmarks"}, {}, "offline")
    tracking: list[Logger] = [logger] if logger else []
    try:
        yield loggers + tracking
    finally:
        finish_wandb(tracking, exit_code=0)


def report(comparisons: dict[str, Comparison]) -> None:
    for model, comparison in comparisons.items():
        print(f"\n{model:<24}{'steps/s':>9}{'ms/step':>10}   of the {BARE:<16}the same by wall time")
        for name in comparison.variants:
            rate, of_bare = comparison.rate(name), comparison.ratio(name, BARE)
            print(f"{name:<24}{rate:>9,.1f}{1000 / rate:>10.2f}   {of_bare!s:<23}{comparison.ratio(name, BARE, True)}")
        if PANELS in comparison.variants:
            print(f"{PANELS} of the {WHOLE}: {comparison.ratio(PANELS, WHOLE)}")


if __name__ == "__main__":
    main()
