"""How fast the fast recipe is: seconds from the first training batch to the last, and the accuracy it ends with.

    python -m benchmarks.speedrun [--config fast_convnet] [--seeds N] [--test] [--compare [--rounds R --steps S]]
                                  [--trainer.max_epochs 8 and any other setting of `pipelines.train fit`]

Each seed is a whole training by the Trainer with what a run has on: figures of training, metrics.csv, an offline W&B
run (if wandb is installed), the progress bar, TrainingHealth and the random state. Timed by the wall, the device waited
for at both ends. Stated apart: reading and whitening (set-up), a few steps before the first seed (warm-up, in which
kernels are chosen and, with `--model.compile true`, compiled), and the evaluation after the last step.

Accuracy is that of the validation images, as they are and averaged over views; `--test` takes the test images instead
and is for a recipe whose choices are done. `share` is images/s times the FLOPs of an image, forward and backward, over
the FLOPs a second of a large matrix product on the same device in the same precision.

`--compare` trains S steps in turn by the Trainer and by a bare loop with the same model, batches and optimizer, which
keeps no figures and writes nothing. On a CPU its rates are per second of CPU time, which other work hardly disturbs.
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
from modules import FastConvNet
from pipelines.console.errors import user_errors
from pipelines.run.allocator import keep_freed_memory
from pipelines.run.build import build
from pipelines.run.checkpoints import RandomState
from pipelines.run.progress import ProgressBar
from pipelines.run.schedule_length import ScheduleLength
from pipelines.train import resolve

BARE, OURS = "bare loop", "this project"
_WARM_UP = 2  # steps before the clock of `--compare` starts
_FLOP_IMAGES = 16
_TAKEN = (
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
    """One training.

    Attributes:
        setup: seconds before the first batch.
        training: seconds from the first batch to the last.
        evaluation: seconds after it.
        images: seen in training.
        plain: accuracy of images as they are.
        views: accuracy over the views of an image.
    """

    setup: float
    training: float
    evaluation: float
    images: int
    plain: float
    views: float


class Speedrun:
    """The recipe of a command line, trained again and again with the same compiled model.

    Args:
        arguments: of `pipelines.train fit`, resolved.
        topic: their topic.
        folder: for the runs' files.
        loggers: of the runs.

    Raises:
        ValueError: another model than FastConvNet.
    """

    def __init__(self, arguments: Sequence[str], topic: str, folder: Path, loggers: list[Logger]) -> None:
        self.arguments, self.topic, self.folder, self.loggers = list(arguments), topic, folder, loggers
        built = build(self.arguments, topic)
        if not isinstance(built.model, FastConvNet):
            raise ValueError(
                f"speedrun trains FastConvNet, but the configuration names {type(built.model).__name__}; give "
                "--config fast_convnet or another one of it."
            )
        self.model: FastConvNet = built.model
        given = built.config["fit"]["trainer"]
        self.settings = {name: given[name] for name in _TAKEN if given.get(name) is not None}
        self.precision = str(self.settings.get("precision", "32-true"))

    def data(self, seed: int) -> Any:
        """The data of a seed; the model takes on the weights with which a run of this seed begins."""
        built = build([*self.arguments, "--seed_everything", str(seed)], self.topic)
        self.model.load_state_dict(built.model.state_dict())
        return built.datamodule

    def trainer(self, timer: Timer, **settings: Any) -> L.Trainer:
        """A Trainer with what a run has on; the timer is the last callback."""
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
        """A few steps on the shapes of the run, in seconds."""
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
        """Shares of the images of a split that are classified rightly, as they are and over views."""
        data.setup("test" if split == "test" else "validate")
        right, count = torch.zeros(2, device=device), 0
        self.model.eval()
        for batch in data.test_dataloader() if split == "test" else data.val_dataloader():
            images, labels = data.on_after_batch_transfer(to_device(batch, device), 0)
            with autocast(device, self.precision):
                logits = torch.stack([self.model(images), self.model.test_logits(images)])  # (2, B, K)
            right += (logits.argmax(2) == labels).sum(1)
            count += len(labels)
        self.model.train()
        plain, views = (right / max(count, 1)).tolist()
        return plain, views

    def flops_of_an_image(self, device: torch.device) -> float:
        """Forward and backward, while the whitening's bias learns."""
        self.model.to(device).train()
        images = torch.randn(_FLOP_IMAGES, *self.model.example_input_array.shape[1:], device=device)  # type: ignore[union-attr]
        labels = torch.zeros(_FLOP_IMAGES, dtype=torch.int64, device=device)

        def step() -> None:
            with autocast(device, self.precision):
                loss = self.model.loss(self.model.network.forward(images), labels)
            loss.backward()

        self.model.network.first.bias.requires_grad_(True)  # type: ignore[union-attr]
        counted = flops(step) / _FLOP_IMAGES
        self.model.zero_grad(set_to_none=True)
        return counted

    def compare(self, device: torch.device, rounds: int, steps: int) -> Comparison:
        """Images a second of S steps by the Trainer and by the bare loop, in turn."""
        data = self.data(0)
        data.setup("fit")
        variants = {BARE: partial(self.bare, data, device, steps), OURS: partial(self.ours, data, steps)}
        gpu = device.type != "cpu"  # it works while the process waits
        return Comparison({name: Variant(measure, by_wall=gpu) for name, measure in variants.items()}, rounds)

    def ours(self, data: Any, steps: int) -> Rate:
        timer = Timer(first=_WARM_UP, last=_WARM_UP + steps)
        self.fit(data, timer, accumulate_grad_batches=1)  # as the bare loop
        return Rate.of(steps * data.batch_size, timer.time)

    def bare(self, data: Any, device: torch.device, steps: int) -> Rate:
        """The loop that one would write without Lightning."""
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
    """Mean and deviation over the seeds, and the share of the device's matrix products."""
    figures: list[tuple[str, list[float], str]] = [
        ("training", [run.training for run in runs], " s"),
        ("images/s", [run.images / run.training for run in runs], ""),
        (f"{split} accuracy", [100 * run.plain for run in runs], " %"),
        (f"{split} accuracy, views", [100 * run.views for run in runs], " %"),
    ]
    print()
    for name, values, unit in figures:
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        print(f"{name:<24}{mean(values):>10,.2f}{spread}{unit}")
    print(f"{'share':<24}{100 * mean(run.images / run.training for run in runs) * flop_rate:>10.1f} %")


@contextmanager
def speedrun(arguments: Sequence[str]) -> Iterator[Speedrun]:
    """A speedrun of a command line with its files in a temporary folder."""
    resolved, topic = resolve(["fit", *arguments])
    with TemporaryDirectory() as folder, tracked(Path(folder)) as loggers:
        yield Speedrun(resolved, topic, Path(folder), loggers)


def main(arguments: Sequence[str] | None = None) -> tuple[list[Run], Comparison | None]:
    parser = argparse.ArgumentParser(description="Seconds of training and accuracy of the fast recipe.")
    parser.add_argument("--config", default="fast_convnet")
    parser.add_argument("--seeds", type=int, default=1, help="trainings, with seeds 0, 1, …; 0 compares alone")
    parser.add_argument("--test", action="store_true", help="evaluate on the test images, not those held out")
    parser.add_argument("--compare", action="store_true", help="images a second beside a bare loop")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison")
    parser.add_argument("--steps", type=int, default=10, help="of a measurement of the comparison")
    options, rest = parser.parse_known_args(arguments)
    split = "test" if options.test else "val"
    with user_errors(), speedrun(["--config", options.config, *rest]) as race:
        probe = race.trainer(Timer())
        device, dtype = probe.strategy.root_device, torch.bfloat16 if "16" in race.precision else torch.float32
        matmul, each = matmul_rate(device, dtype), race.flops_of_an_image(device)
        print(f"{name_of(device)}, {race.precision}, {type(race.model).__name__}")
        print(f"{each / 1e9:.3f} GFLOP an image, matrix products {matmul / 1e12:.2f} TFLOP/s", flush=True)
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
            report(runs, split, each / matmul)
        return runs, comparison
    raise AssertionError("user_errors ends the process")


if __name__ == "__main__":
    keep_freed_memory()
    main()
