"""Training time of the fast recipe, from the first training batch to the last, and its final accuracy.

    python -m benchmarks.speedrun [--config fast_convnet] [--seeds N] [--test] [--compare [--rounds R --steps S]]
                                  [--trainer.max_epochs 8 and any other setting of `pipelines.train fit`]

Each seed is a whole training by the Trainer with all that a run has: training metrics, metrics.csv, an offline W&B run
(if wandb is installed), the progress bar, TrainingHealth and the random state. The wall time is measured, with the
device synchronized at both ends. Printed separately: reading and whitening (set-up), a few steps before the first seed
(warm-up, in which kernels are chosen and, with `--model.compile true`, compiled), and the evaluation after the last
step.

Accuracy is of the validation images, plain and with test-time augmentation (`views`); `--test` uses the test images
instead, for a recipe that is final. `share` is images/s times the FLOPs of an image, forward and backward, divided by
the FLOP/s of a large matrix product on the same device in the same precision.

`--compare` trains S steps in turn by the Trainer and by a bare loop with the same model, batches and optimizer, which
computes no metrics and writes nothing. On a CPU its rates are per second of CPU time, which other load hardly affects.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor

from benchmarks.device import Timer, autocast, flops, matmul_rate, name_of, synchronize, to_device
from benchmarks.timing import Clock, Comparison, Rate, Variant
from benchmarks.trainer_overhead import Terminal, tracked
from callbacks import TrainingHealth
from common.errors import UserError
from modules import FastConvNet
from pipelines.console.errors import user_errors
from pipelines.console.progress_bar import ProgressBar
from pipelines.run.allocator import keep_freed_memory
from pipelines.run.build import build
from pipelines.run.resume import RandomState
from pipelines.run.schedule_length import ScheduleLength
from pipelines.train import resolve

BARE, OURS = "bare loop", "this project"
_WARM_UP = 2  # steps before the timing of `--compare` starts
_FLOP_IMAGES = 16
_TRAINER_SETTINGS = (
    "accelerator",
    "devices",
    "precision",
    "max_epochs",
    "max_steps",
    "accumulate_grad_batches",
    "benchmark",
    "deterministic",
    "log_every_n_steps",
)


@dataclass(frozen=True)
class Run:
    """Result of one training.

    Attributes:
        setup: Seconds before the first batch.
        training: Seconds from the first batch to the last.
        evaluation: Seconds after the last batch.
        images: Number of training images, counted once per epoch.
        plain: Accuracy without test-time augmentation.
        views: Accuracy with test-time augmentation.
    """

    setup: float
    training: float
    evaluation: float
    images: int
    plain: float
    views: float


class Speedrun:
    """Trains the recipe of a command line with several seeds and the same compiled model.

    Args:
        arguments: Arguments of `pipelines.train fit`, resolved.
        topic: Topic of the arguments.
        folder: Folder of the runs' files.
        loggers: Loggers of the runs.

    Raises:
        ValueError: If the model is not FastConvNet.
    """

    def __init__(self, arguments: Sequence[str], topic: str, folder: Path, loggers: list[Logger]) -> None:
        self.arguments, self.topic, self.folder, self.loggers = list(arguments), topic, folder, loggers
        built = build(self.arguments, topic)
        if not isinstance(built.model, FastConvNet):
            raise UserError(
                f"speedrun trains FastConvNet, but the configuration names {type(built.model).__name__}; use "
                "--config fast_convnet or another configuration of it."
            )
        self.model: FastConvNet = built.model
        config = built.config["fit"]["trainer"]
        self.settings = {name: config[name] for name in _TRAINER_SETTINGS if config.get(name) is not None}
        self.precision = str(self.settings.get("precision", "32-true"))

    def data(self, seed: int) -> Any:
        """Returns the data module of a seed, and resets the model to the initial weights of this seed."""
        built = build([*self.arguments, "--seed_everything", str(seed)], self.topic)
        self.model.load_state_dict(built.model.state_dict())
        return built.datamodule

    def trainer(self, timer: Timer, **settings: Any) -> L.Trainer:
        """Returns a Trainer with all that a run has; the timer is the last callback."""
        return L.Trainer(
            **{**self.settings, **settings},
            logger=self.loggers,
            callbacks=[TrainingHealth(), ProgressBar(), RandomState(), ScheduleLength(), timer],
            default_root_dir=self.folder,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_model_summary=False,
        )

    def fit(self, data: Any, timer: Timer, **settings: Any) -> L.Trainer:
        trainer = self.trainer(timer, **settings)
        with redirect_stdout(Terminal()):
            trainer.fit(self.model, data)
        return trainer

    def warm_up(self) -> float:
        """Takes a few steps on the run's shapes; returns the seconds."""
        started = perf_counter()
        self.fit(self.data(0), Timer(last=_WARM_UP))
        return perf_counter() - started

    def run(self, seed: int, split: str) -> Run:
        """Trains one seed and evaluates it on `val` or `test`."""
        started = perf_counter()
        data, timer = self.data(seed), Timer()
        trainer = self.fit(data, timer)
        ended = perf_counter()
        device = trainer.strategy.root_device
        self.model.to(device)
        plain, views = self.accuracy(data, split, device)
        images = timer.steps * data.batch_size
        return Run(ended - started - timer.time.wall, timer.time.wall, perf_counter() - ended, images, plain, views)

    @torch.no_grad()
    def accuracy(self, data: Any, split: str, device: torch.device) -> tuple[float, float]:
        """Returns the accuracies on a split, plain and with test-time augmentation."""
        data.setup("test" if split == "test" else "validate")
        correct, count = torch.zeros(2, device=device), 0
        self.model.eval()
        for batch in data.test_dataloader() if split == "test" else data.val_dataloader():
            images, labels = data.on_after_batch_transfer(to_device(batch, device), 0)
            with autocast(device, self.precision):
                logits = torch.stack([self.model(images), self.model.test_logits(images)])  # (2, B, K)
            correct += (logits.argmax(2) == labels).sum(1)
            count += len(labels)
        self.model.train()
        plain, views = (correct / max(count, 1)).tolist()
        return plain, views

    def flops_of_an_image(self, device: torch.device) -> float:
        """Returns the FLOPs of an image, forward and backward, while the whitening's bias is trained."""
        self.model.to(device).train()
        images = torch.randn(_FLOP_IMAGES, *self.model.example_input_array.shape[1:], device=device)  # type: ignore[union-attr]
        labels = torch.zeros(_FLOP_IMAGES, dtype=torch.int64, device=device)

        def step() -> None:
            with autocast(device, self.precision):
                loss = self.model.loss(self.model.network.forward(images), labels)
            loss.backward()

        self.model.network.first.bias.requires_grad_(True)  # type: ignore[union-attr]
        count = flops(step) / _FLOP_IMAGES
        self.model.zero_grad(set_to_none=True)
        return count

    def compare(self, device: torch.device, rounds: int, steps: int) -> Comparison:
        """Compares images per second of the Trainer and of the bare loop, over S steps in turn."""
        data = self.data(0)
        data.setup("fit")
        variants = {BARE: partial(self.bare, data, device, steps), OURS: partial(self.ours, data, steps)}
        gpu = device.type != "cpu"  # CPU time does not include the GPU's
        return Comparison({name: Variant(measure, by_wall=gpu) for name, measure in variants.items()}, rounds)

    def ours(self, data: Any, steps: int) -> Rate:
        timer = Timer(first=_WARM_UP, last=_WARM_UP + steps)
        self.fit(data, timer, accumulate_grad_batches=1)  # as the bare loop
        return Rate.of(steps * data.batch_size, timer.time)

    def bare(self, data: Any, device: torch.device, steps: int) -> Rate:
        """Measures the loop that one would write without Lightning."""
        self.model.to(device).train()
        self.model.network.first.bias.requires_grad_(True)  # type: ignore[union-attr]
        optimizer, schedule = self.model.optimizer_for(data.batch_size)
        total = self.settings["max_epochs"] * len(data.train_dataloader())
        schedule.begin(total)
        for step, batch in enumerate(self.endless(data)):
            if step == _WARM_UP:
                synchronize(device)
                started = Clock.now()
            if step == _WARM_UP + steps:
                break
            images, labels = data.on_after_batch_transfer(to_device(batch, device), 0)
            with autocast(device, self.precision):
                loss = self.model.loss(self.model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.model.finish_step(step + 1, total)
            schedule.step()
        synchronize(device)
        return Rate.of(steps * data.batch_size, Clock.now() - started)

    @staticmethod
    def endless(data: Any) -> Iterator[tuple[Tensor, Tensor]]:
        loader = data.train_dataloader()
        while True:
            yield from loader


def report(runs: Sequence[Run], split: str, flop_rate: float) -> None:
    """Prints mean and standard deviation over the seeds, and the fraction of the device's matmul rate."""
    rows: list[tuple[str, list[float], str]] = [
        ("training", [run.training for run in runs], " s"),
        ("images/s", [run.images / run.training for run in runs], ""),
        (f"{split} accuracy", [100 * run.plain for run in runs], " %"),
        (f"{split} accuracy, views", [100 * run.views for run in runs], " %"),
    ]
    print()
    for name, values, unit in rows:
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        print(f"{name:<24}{mean(values):>10,.2f}{spread}{unit}")
    print(f"{'share':<24}{100 * mean(run.images / run.training for run in runs) * flop_rate:>10.1f} %")


@contextmanager
def speedrun(arguments: Sequence[str]) -> Iterator[Speedrun]:
    """Yields the `Speedrun` of a command line, with its files in a temporary folder."""
    resolved, topic = resolve(["fit", *arguments])
    with TemporaryDirectory() as folder, tracked(Path(folder)) as loggers:
        yield Speedrun(resolved, topic, Path(folder), loggers)


def main(arguments: Sequence[str] | None = None) -> tuple[list[Run], Comparison | None]:
    parser = argparse.ArgumentParser(description="Training time and accuracy of the fast recipe.")
    parser.add_argument("--config", default="fast_convnet")
    parser.add_argument(
        "--seeds", type=int, default=1, help="number of trainings, seeds 0, 1, …; 0 for --compare alone"
    )
    parser.add_argument("--test", action="store_true", help="evaluate on test instead of validation images")
    parser.add_argument("--compare", action="store_true", help="images per second against a bare loop")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of --compare")
    parser.add_argument("--steps", type=int, default=10, help="steps per measurement of --compare")
    options, rest = parser.parse_known_args(arguments)
    split = "test" if options.test else "val"
    with user_errors(), speedrun(["--config", options.config, *rest]) as race:
        probe = race.trainer(Timer())
        device, dtype = probe.strategy.root_device, torch.bfloat16 if "16" in race.precision else torch.float32
        matmul, image_flops = matmul_rate(device, dtype), race.flops_of_an_image(device)
        print(f"{name_of(device)}, {race.precision}, {type(race.model).__name__}")
        print(f"{image_flops / 1e9:.3f} GFLOP an image, matrix products {matmul / 1e12:.2f} TFLOP/s", flush=True)
        comparison = race.compare(device, options.rounds, options.steps) if options.compare else None
        if comparison is not None:
            print(f"\n{'':<24}{'images/s':>9}   of the {BARE:<16}the same by wall time")
            for name in comparison.variants:
                ratios = [str(comparison.ratio(name, BARE, by_wall)) for by_wall in (False, True)]
                print(f"{name:<24}{comparison.rate(name):>9,.0f}   {ratios[0]:<23}{ratios[1]}", flush=True)
        runs = []
        if options.seeds:
            print(f"\nwarm-up {race.warm_up():.1f} s", flush=True)
        for seed in range(options.seeds):
            run = race.run(seed, split)
            runs.append(run)
            print(
                f"seed {seed}: set-up {run.setup:.1f} s, training {run.training:.2f} s, "
                f"evaluation {run.evaluation:.1f} s; {split} "
                f"accuracy {100 * run.plain:.2f} %, over views {100 * run.views:.2f} %",
                flush=True,
            )
        if runs:
            report(runs, split, image_flops / matmul)
        return runs, comparison
    raise AssertionError("user_errors ends the process")


if __name__ == "__main__":
    keep_freed_memory()
    main()
