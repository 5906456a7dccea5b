"""All measurements that need a GPU in one table, by one command in under ten minutes.

    python -m benchmarks.gpu [--root data] [--seeds 3] [--test] [--minutes 10] [--only ROW ...]

    fast recipe     whole trainings, eager and compiled: seconds, accuracy, images/s, fraction of the matmul rate; the
                    figure to beat is the record on an A100, 94 % in 1.99 s (https://www.hiverge.ai/blog/cifar-speedrun)
    ResNet-18       images/s as `fit` runs it, and of a bare channels-last loop with the same model and batches
    kNN             seconds for 10,000 queries among 50,000 images
    SimCLR          images/s (two views each)
    GAN             batches/s of dcgan, each one step of both networks
    captions        target words/s of the LSTM with attention
    packs           training steps/s of 64 small models, stacked and one after the other

Rows whose data files are missing use drawn images and say so; they have a speed but no accuracy. A row that fails, or
whose package is missing, prints the reason, and the next one starts. No row starts after `--minutes`. `--cpu` runs all
rows with tiny sizes on a machine without a GPU, to test the script.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import lightning as L
import torch

from benchmarks.device import (
    Timer,
    autocast,
    fast_dtype,
    matmul_rate,
    name_of,
    synchronize,
    to_device,
)
from benchmarks.speedrun import speedrun
from benchmarks.timing import Clock, Rate
from callbacks import TrainingHealth
from common.errors import UserError
from common.machine.dtype_support import mixed_precision
from datamodules.files.official_files import CIFAR10_MEMBERS
from modules import ConvNet, TwoLayerNet
from modules.base.buffered_metrics import BufferedMetrics
from modules.neighbors.nearest_neighbors import NearestNeighbors
from pipelines.console.errors import user_errors
from pipelines.console.lightning_messages import quiet
from pipelines.packs.stacked_models import StackedModels
from pipelines.run.allocator import keep_freed_memory
from pipelines.run.build import build
from pipelines.run.schedule_length import ScheduleLength
from pipelines.train import resolve

_RECORD_SECONDS = 1.99  # for 94 % on one A100
_TINY = {
    "fast recipe": ["--model.widths", "[8,16,16]", "--data.batch_size", "64"],
    "other": ["--data.batch_size", "16"],
}
_DRAWN = ["--data", "Shapes", "--data.num_test", "100"]


@dataclass
class Bench:
    """Settings of all rows, and the lines printed so far.

    Args:
        device: A GPU, or a CPU to test the script.
        root: Folder of the data sets.
        seeds: Number of trainings of the fast recipe.
        split: Split of the accuracy: val or test.
        tiny: Use sizes small enough for a CPU.
    """

    device: torch.device
    root: str
    seeds: int
    split: str
    tiny: bool
    lines: list[tuple[str, str]] = field(default_factory=list)

    @property
    def steps(self) -> tuple[int, int]:
        """Numbers of warm-up steps and of measured steps."""
        return (1, 2) if self.tiny else (20, 100)

    def cifar10(self) -> list[str]:
        """Returns the data arguments: CIFAR-10 if its files are present, else drawn images."""
        folder = Path(self.root) / "cifar-10-batches-py"
        if all((folder / name).is_file() for name in CIFAR10_MEMBERS) and not self.tiny:
            return ["--data.root", self.root]
        return [*_DRAWN, "--data.num_train", "640" if self.tiny else "50000"]

    def report(self, row: str, results: str) -> None:
        self.lines.append((row, results))
        print(f"{row:<28}{results}", flush=True)


def fast_recipe(bench: Bench) -> None:
    data, tiny = bench.cifar10(), [*_TINY["fast recipe"], "--trainer.max_epochs", "3"] if bench.tiny else []
    real = data[0] == "--data.root"
    for compiled in (False, True):
        if compiled and bench.tiny:
            return  # minutes on a CPU
        arguments = ["--config", "fast_convnet", *data, *tiny, "--model.compile", str(compiled).lower()]
        with speedrun(arguments) as race:
            share = race.flops_of_an_image(bench.device) / matmul_rate(bench.device, fast_dtype(bench.device))
            warm_up = race.warm_up()
            runs = [race.run(seed, bench.split) for seed in range(bench.seeds)]
        seconds = torch.tensor([run.training for run in runs])
        speed = sum(run.images for run in runs) / sum(run.training for run in runs)
        views = torch.tensor([100 * run.views for run in runs])
        accuracy = (
            f"{bench.split} accuracy {views.mean():.2f} % (sd {views.std(correction=0):.2f})" if real else "drawn"
        )
        bench.report(
            "fast recipe, compiled" if compiled else "fast recipe",
            f"{seconds.mean():.2f} s (record: {_RECORD_SECONDS}), {accuracy}, {len(runs)} seeds, "
            f"{speed:,.0f} images/s, {100 * speed * share:.0f} % of the matmul rate; warm-up {warm_up:.0f} s",
        )


def topic(bench: Bench, config: str, settings: Sequence[str]) -> tuple[Any, Any, Rate, list[Any]]:
    """Measures batches per second of a topic as `fit` runs it, without checkpoints and validation.

    Returns:
        Its model, its data module, the rate, and a list with one training batch.
    """
    tiny = _TINY["other"] if bench.tiny else []
    built = build(*resolve(["fit", "--config", config, *settings, *tiny]))
    model, data, run_config = built.model, built.datamodule, built.config["fit"]
    first, steps = bench.steps
    timer = Timer(first, first + steps)
    with TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu" if bench.device.type == "cpu" else "gpu",
            devices=1,
            precision=run_config["trainer"]["precision"] or "32-true",
            gradient_clip_val=run_config["trainer"]["gradient_clip_val"],
            benchmark=True,
            max_epochs=10_000,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[*([TrainingHealth()] if trainer_logs(model) else []), ScheduleLength(), timer],
        )
        trainer.fit(model, data)
    data.trainer = None
    return model, data, Rate.of(steps, timer.time), [next(iter(data.train_dataloader()))]


def trainer_logs(model: L.LightningModule) -> bool:
    """Returns whether TrainingHealth works on the model: it supports a single optimizer."""
    return bool(model.automatic_optimization)


def resnet(bench: Bench) -> None:
    # SGD on both sides, as in most scripts: Muon's cost would not be the Trainer's.
    sgd = ["--optimizer", "torch.optim.SGD", "--optimizer.lr", "0.1", "--optimizer.weight_decay", "5e-4"]
    precision = mixed_precision(bench.device)
    model, data, ours, _ = topic(bench, "resnet", [*bench.cifar10(), *sgd, "--trainer.precision", precision])
    device, (first, steps) = bench.device, bench.steps
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = chain.from_iterable(repeat(data.train_dataloader()))
    started = Clock.now()
    for step in range(first + steps):
        if step == first:
            synchronize(device)
            started = Clock.now()
        images, labels = data.on_after_batch_transfer(to_device(next(batches), device), 0)
        with autocast(device, precision):
            loss = torch.nn.functional.cross_entropy(model.network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    synchronize(device)
    bare = Rate.of(steps, Clock.now() - started)
    size = data.batch_size
    bench.report(
        "ResNet-18",
        f"{ours.wall * size:,.0f} images/s, bare channels-last loop in {precision} "
        f"{bare.wall * size:,.0f}, ratio {ours.wall / bare.wall:.2f}",
    )


def knn(bench: Bench) -> None:
    queries, memory = (100, 500) if bench.tiny else (10_000, 50_000)
    pixels = torch.randint(256, (queries + memory, 3, 32, 32), dtype=torch.uint8).to(bench.device)
    search = NearestNeighbors(pixels[queries:], "l2")
    search.search(pixels[:100], 10)
    synchronize(bench.device)
    started = perf_counter()
    search.search(pixels[:queries], 100)
    synchronize(bench.device)
    bench.report("kNN", f"{perf_counter() - started:.2f} s for {queries:,} queries among {memory:,} images, l2, k 100")


def simclr(bench: Bench) -> None:
    _, data, rate, _ = topic(bench, "simclr" if bench.tiny else "simclr_gpu", bench.cifar10())
    bench.report("SimCLR", f"{rate.wall * data.batch_size:,.0f} images/s, two views each")


def gan(bench: Bench) -> None:
    files = Path(bench.root) / "MNIST" / "raw"
    data = ["--data.root", bench.root] if files.is_dir() else ["--data", "Digits"]
    network = (
        [] if files.is_dir() else ["--model.generator", "fully_connected", "--model.discriminator", "fully_connected"]
    )
    _, _, rate, _ = topic(bench, "dcgan", [*data, *network])
    bench.report("GAN", f"{rate.wall:,.1f} batches/s" + ("" if files.is_dir() else ", fully connected on drawn digits"))


def captions(bench: Bench) -> None:
    _, _, rate, batches = topic(bench, "caption_lstm", [])
    words = sum(int((tokens[:, 1:] != 0).sum()) for _, tokens in batches) / len(batches)
    bench.report("captions", f"{rate.wall * words:,.0f} words/s, {words:.0f} a batch, on drawn scenes")


def packs(bench: Bench) -> None:
    """Training steps of many small models as one computation, against one after the other."""
    number, batch_size = (3, 16) if bench.tiny else (64, 128)
    batch = torch.randn(batch_size, 3, 32, 32).to(bench.device), torch.randint(10, (batch_size,)).to(bench.device)
    networks: dict[str, Callable[[], BufferedMetrics]] = {
        "two_layer": lambda: TwoLayerNet((3, 32, 32), 10, hidden_size=100),
        "small convnet": lambda: ConvNet((3, 32, 32), 10, channels=[8, 16]),
    }
    for name, make in networks.items():
        models = [make().to(bench.device) for _ in range(number)]
        optimizers = [torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9) for model in models]
        alone = steps_per_second(bench, lambda m=models, o=optimizers: steps_one_by_one(m, o, batch))  # type: ignore[misc]
        stack = StackedModels(models)
        packed = steps_per_second(bench, lambda s=stack, o=optimizers: steps_at_once(s, o, batch))  # type: ignore[misc]
        rates = f"{number * packed:,.0f} steps/s of {number} models at once, {number * alone:,.0f} one after the other"
        bench.report(f"pack, {name}", f"{rates}: {packed / alone:.1f} x")


def steps_one_by_one(models: list[BufferedMetrics], optimizers: list[torch.optim.Optimizer], batch: Any) -> None:
    for model, optimizer in zip(models, optimizers, strict=True):
        optimizer.zero_grad()
        model.training_step(batch, 0).backward()  # type: ignore[union-attr]
        optimizer.step()


def steps_at_once(stack: StackedModels, optimizers: list[torch.optim.Optimizer], batch: Any) -> None:
    states = [torch.get_rng_state()] * len(stack.models)
    for model, optimizer, step in zip(stack.models, optimizers, stack.step(batch, states), strict=True):
        for parameter, gradient in zip(model.parameters(), step.gradients, strict=True):
            parameter.grad = gradient
        model.count_training_batch(step.number, **step.sums)
        optimizer.step()


def steps_per_second(bench: Bench, step: Callable[[], None]) -> float:
    """Returns how often a function runs in a second on the device."""
    warm_up, measured = bench.steps
    for _ in range(warm_up):
        step()
    synchronize(bench.device)
    started = perf_counter()
    for _ in range(measured):
        step()
    synchronize(bench.device)
    return measured / (perf_counter() - started)


ROWS: dict[str, Callable[[Bench], None]] = {
    "fast": fast_recipe,
    "resnet": resnet,
    "knn": knn,
    "simclr": simclr,
    "gan": gan,
    "captions": captions,
    "packs": packs,
}


def main(arguments: Sequence[str] | None = None) -> list[tuple[str, str]]:
    parser = argparse.ArgumentParser(description="All measurements that need a GPU, as one table.")
    parser.add_argument("--root", default="data", help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings of the fast recipe")
    parser.add_argument("--test", action="store_true", help="evaluate on test instead of validation images")
    parser.add_argument("--minutes", type=float, default=10, help="no row starts later than this")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--cpu", action="store_true", help="tiny sizes on a CPU, to test the script")
    options = parser.parse_args(arguments)
    with user_errors():
        if not options.cpu and not torch.cuda.is_available():
            raise UserError("There is no GPU that torch can use; run this on a machine with one, or set --cpu.")
        quiet()
        device = torch.device("cpu" if options.cpu else "cuda")
        bench = Bench(device, options.root, options.seeds, "test" if options.test else "val", options.cpu)
        dtype = fast_dtype(device)
        print(f"{name_of(device)}, torch {torch.__version__}, lightning {L.__version__}")
        rate, kind = matmul_rate(device, dtype), str(dtype).removeprefix("torch.")
        bench.report("matrix products", f"{rate / 1e12:,.2f} TFLOP/s in {kind}")
        started = perf_counter()
        for name in options.only:
            if perf_counter() - started > 60 * options.minutes:
                bench.report(name, f"not measured: {options.minutes:g} minutes are over")
                continue
            try:
                ROWS[name](bench)
            except (Exception, SystemExit) as error:  # the other rows go on
                bench.report(name, f"not measured: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return bench.lines


if __name__ == "__main__":
    keep_freed_memory()
    main()
