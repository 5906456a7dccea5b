"""Images per second of the convolutional topics as `pipelines.train fit` runs them, against a bare PyTorch loop.

    python -m benchmarks.networks [--root data] [--rounds R] [--steps N] [--models small convnet wide resnet]

The bare loop is what one writes without this project: the same model in channels-last and, if the CPU has it, bfloat16,
the same optimizer, torchvision's transforms (pad and crop, flip, to tensor, normalize) on each image, and a DataLoader
with two workers. It has no metrics, logs or checkpoints; our side has all of them. `kept memory` is the bare loop in a
process that keeps freed memory as ours does (`pipelines/run/allocator.py`), which leaves the difference of loader and
Trainer.

`small` is a convnet so light that the loader is the bottleneck; `convnet` and `resnet` are the topics' networks;
`wide` is a convnet of 64 to 256 channels, with three times the FLOPs of the topic's.

Each measurement is a separate process, by wall time, with two threads; the variants run in turn.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from itertools import islice
from pathlib import Path
from pydoc import locate
from tempfile import TemporaryDirectory

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.device import autocast
from benchmarks.timing import Clock, Comparison, Rate, Variant
from benchmarks.trainer_overhead import Stopwatch, Terminal, tracked
from callbacks import TrainingHealth
from common.machine.dtype_support import mixed_precision
from datamodules import CIFAR10
from modules import ConvNet, WarmupCosine
from modules.base.classifier import Classifier
from pipelines.checkpoints.checkpoint_io import AtomicCheckpointIO
from pipelines.console.lightning_messages import quiet
from pipelines.console.progress_bar import ProgressBar
from pipelines.run.allocator import keep_freed_memory
from pipelines.run.resume import RandomState
from pipelines.run.schedule_length import ScheduleLength, configure_optimizers
from pipelines.run.topics import find_config

_CPU = torch.device("cpu")
BARE, KEPT, OURS = "bare loop", "bare loop, kept memory", "this project"


def of_topic(config: str) -> Classifier:
    """Returns the network for CIFAR-10 of a topic or YAML file."""
    model = yaml.safe_load(find_config(config).read_text())["model"]
    network: Classifier = locate(model["class_path"])((3, 32, 32), 10, **model["init_args"])  # type: ignore[operator]
    return network


MODELS: dict[str, Callable[[], Classifier]] = {
    "small": partial(ConvNet, (3, 32, 32), 10, [16, 32, 64], 1),
    "convnet": partial(of_topic, "convnet"),
    "wide": partial(ConvNet, (3, 32, 32), 10, [64, 128, 256]),
    "resnet": partial(of_topic, "resnet"),
}
BATCH_SIZE = 256
WARM_UP = 10  # steps before timing starts, as in Stopwatch


def measure(variant: str, model_name: str, root: str, steps: int) -> float:
    """Returns images per second of one variant, in this process."""
    if variant != BARE:
        keep_freed_memory()
    quiet()
    return (ours if variant == OURS else bare)(MODELS[model_name](), root, steps)


def bare(model: Classifier, root: str, steps: int) -> float:
    """Measures the loop that one would write, with torchvision's transforms."""
    from torchvision import transforms  # takes a second to import, which our side does not need

    from benchmarks.input_pipeline import InMemory

    split = CIFAR10(root=root)
    split.setup("fit")
    normalize = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    crop, flip = transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip()
    data = InMemory(*split.splits["train"], transforms.Compose([crop, flip, transforms.ToTensor(), normalize]))
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        data, BATCH_SIZE, shuffle=True, num_workers=2, drop_last=True
    )
    optimizer = optimizer_of(model)
    model.train()
    started = Clock.now()
    for step, (images, labels) in enumerate(islice(loader, WARM_UP + steps)):
        if step == WARM_UP:
            started = Clock.now()
        with autocast(_CPU, mixed_precision(_CPU)):
            loss = model.loss(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Rate.of(steps * BATCH_SIZE, Clock.now() - started).wall


def ours(model: Classifier, root: str, steps: int) -> float:
    """Measures the Trainer as `pipelines.train fit` builds it."""
    optimizer = optimizer_of(model)
    configured = configure_optimizers(model, optimizer, WarmupCosine(optimizer))
    model.configure_optimizers = lambda: configured  # type: ignore
    stopwatch = Stopwatch(steps)
    with TemporaryDirectory() as folder, tracked(Path(folder)) as loggers, redirect_stdout(Terminal()):
        checkpoint = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            precision=mixed_precision(_CPU),
            max_epochs=1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            enable_model_summary=False,
            logger=loggers,
            callbacks=[TrainingHealth(), ProgressBar(), RandomState(), ScheduleLength(), checkpoint, stopwatch],
        )
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        trainer.fit(model, CIFAR10(root=root, batch_size=BATCH_SIZE, crop_padding=4, flip=True))
    return Rate.of(steps * BATCH_SIZE, stopwatch.time).wall


def optimizer_of(model: Classifier) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)


def in_subprocess(variant: str, model_name: str, root: str, steps: int) -> Rate:
    """Returns the result of `measure` in a separate process."""
    options = ["--measure", variant, "--models", model_name, "--root", root, "--steps", str(steps)]
    command = [sys.executable, "-m", "benchmarks.networks", *options]
    # In the process torch is imported before `keep_freed_memory`, so its environment variable is set here.
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "0" if variant == BARE else "1"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{finished.stderr[-2000:]}")
    rate = float(finished.stdout.split()[-1])
    return Rate(rate, rate)


def main(arguments: Sequence[str] | None = None) -> dict[str, Comparison]:
    parser = argparse.ArgumentParser(description="Images per second of the convolutional topics and of a bare loop.")
    parser.add_argument("--root", default="data", help="folder of the data sets, with CIFAR-10")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="steps per measurement; a quarter for resnet")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--measure", choices=(BARE, KEPT, OURS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(measure(options.measure, options.models[0], options.root, options.steps))
        return {}
    comparisons = {}
    for model in options.models:
        steps = options.steps // 4 if model == "resnet" else options.steps
        variants = {
            name: Variant(partial(in_subprocess, name, model, options.root, steps), by_wall=True)
            for name in (BARE, KEPT, OURS)
        }
        comparisons[model] = comparison = Comparison(variants, options.rounds)
        print(f"\n{model:<24}{'images/s':>9}   of the {BARE:<16}of the {KEPT}", flush=True)
        for name in variants:
            against = [str(comparison.ratio(name, reference)) for reference in (BARE, KEPT)]
            print(f"{name:<24}{comparison.rate(name):>9,.0f}   {against[0]:<23}{against[1]}", flush=True)
    return comparisons


if __name__ == "__main__":
    main()
