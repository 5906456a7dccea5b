"""Everything that needs a GPU, measured in under ten minutes by one command, as one table.

    python -m benchmarks.gpu [--root data] [--seeds 3] [--test] [--minutes 10] [--only ROW ...]

    fast recipe     whole trainings, eager and compiled: seconds, accuracy, images/s, share of the matrix-product rate
    ResNet-18       images/s as `fit` runs it, and of a bare channels-last loop with the same model and batches
    kNN             seconds for 10,000 queries among 50,000 images
    SimCLR          images/s (two views each)
    GAN             batches/s of the deep convolutional one, each a step of either network
    captions        target words/s of the LSTM with attention

Rows whose data files are missing take drawn images and say so; they then have a speed and no accuracy. A row that
fails, or for which a package is missing, says why and the others go on. Rows that would begin after `--minutes` say so.
`--cpu` goes through the rows with tiny sizes on a machine without a GPU, to see that the script works.
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
from common.dtype_support import mixed_precision
from datamodules.files.official_files import CIFAR10_MEMBERS
from modules.neighbors.nearest_neighbors import NearestNeighbors
from pipelines.console.errors import user_errors
from pipelines.run.allocator import keep_freed_memory
from pipelines.run.build import build
from pipelines.run.cli import quiet
from pipelines.run.schedule_length import ScheduleLength
from pipelines.train import resolve

_TINY = {
    "fast recipe": ["--model.widths", "[8,16,16]", "--data.batch_size", "64"],
    "other": ["--data.batch_size", "16"],
}
_DRAWN = ["--data", "Shapes", "--data.num_test", "100"]


@dataclass
class Bench:
    """What the rows share.

    Args:
        device: a GPU, or a CPU to try the script.
        root: folder of the data files.
        seeds: trainings of the fast recipe.
        split: whose accuracy is told, val or test.
        tiny: whether to take sizes that a CPU can do.
    """

    device: torch.device
    root: str
    seeds: int
    split: str
    tiny: bool
    lines: list[tuple[str, str]] = field(default_factory=list)

    @property
    def steps(self) -> tuple[int, int]:
        """Steps before the clock starts, and steps measured."""
        return (1, 2) if self.tiny else (20, 100)

    def cifar10(self) -> list[str]:
        """Settings of the data: the files if they are there, else drawn images."""
        folder = Path(self.root) / "cifar-10-batches-py"
        if all((folder / name).is_file() for name in CIFAR10_MEMBERS) and not self.tiny:
            return ["--data.root", self.root]
        return [*_DRAWN, "--data.num_train", "640" if self.tiny else "50000"]

    def tell(self, row: str, figures: str) -> None:
        self.lines.append((row, figures))
        print(f"{row:<28}{figures}", flush=True)


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
        bench.tell(
            "fast recipe, compiled" if compiled else "fast recipe",
            f"{seconds.mean():.2f} s, {accuracy}, {len(runs)} seeds, {speed:,.0f} images/s, "
            f"{100 * speed * share:.0f} % of the matrix-product rate; warm-up {warm_up:.0f} s",
        )


def topic(bench: Bench, config: str, settings: Sequence[str]) -> tuple[Any, Any, Rate, list[Any]]:
    """Batches a second of a topic as `fit` runs it, without checkpoints and validation.

    Returns:
        Its model, its data, the rate, and the batches measured, on the CPU or where the data lie.
    """
    tiny = _TINY["other"] if bench.tiny else []
    built = build(*resolve(["fit", "--config", config, *settings, *tiny]))
    model, data, given = built.model, built.datamodule, built.config["fit"]
    first, steps = bench.steps
    timer = Timer(first, first + steps)
    with TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu" if bench.device.type == "cpu" else "gpu",
            devices=1,
            precision=given["trainer"]["precision"] or "32-true",
            gradient_clip_val=given["trainer"]["gradient_clip_val"],
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
    """Whether TrainingHealth can watch: it knows one optimizer."""
    return bool(model.automatic_optimization)


def resnet(bench: Bench) -> None:
    # SGD on both sides: what Muon costs is no cost of the Trainer, and others' scripts have SGD
    rule = ["--optimizer", "torch.optim.SGD", "--optimizer.lr", "0.1", "--optimizer.weight_decay", "5e-4"]
    precision = mixed_precision(bench.device)
    model, data, ours, _ = topic(bench, "resnet", [*bench.cifar10(), *rule, "--trainer.precision", precision])
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
    bench.tell(
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
    bench.tell("kNN", f"{perf_counter() - started:.2f} s for {queries:,} queries among {memory:,} images, l2, k 100")


def simclr(bench: Bench) -> None:
    _, data, rate, _ = topic(bench, "simclr" if bench.tiny else "simclr_gpu", bench.cifar10())
    bench.tell("SimCLR", f"{rate.wall * data.batch_size:,.0f} images/s, two views each")


def gan(bench: Bench) -> None:
    files = Path(bench.root) / "MNIST" / "raw"
    data = ["--data.root", bench.root] if files.is_dir() else ["--data", "Digits"]
    network = (
        [] if files.is_dir() else ["--model.generator", "fully_connected", "--model.discriminator", "fully_connected"]
    )
    _, _, rate, _ = topic(bench, "dcgan", [*data, *network])
    bench.tell("GAN", f"{rate.wall:,.1f} batches/s" + ("" if files.is_dir() else ", fully connected on drawn digits"))


def captions(bench: Bench) -> None:
    _, _, rate, batches = topic(bench, "caption_lstm", [])
    words = sum(int((tokens[:, 1:] != 0).sum()) for _, tokens in batches) / len(batches)
    bench.tell("captions", f"{rate.wall * words:,.0f} words/s, {words:.0f} a batch, on drawn scenes")


ROWS: dict[str, Callable[[Bench], None]] = {
    "fast": fast_recipe,
    "resnet": resnet,
    "knn": knn,
    "simclr": simclr,
    "gan": gan,
    "captions": captions,
}


def main(arguments: Sequence[str] | None = None) -> list[tuple[str, str]]:
    parser = argparse.ArgumentParser(description="All that needs a GPU, as one table.")
    parser.add_argument("--root", default="data", help="folder of the data files")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of the fast recipe")
    parser.add_argument("--test", action="store_true", help="accuracy on the test images, not those held out")
    parser.add_argument("--minutes", type=float, default=10, help="no row begins later than this")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--cpu", action="store_true", help="tiny sizes on a CPU, to try the script")
    options = parser.parse_args(arguments)
    with user_errors():
        if not options.cpu and not torch.cuda.is_available():
            raise ValueError("There is no GPU here that torch can use; run this on a machine with one, or give --cpu.")
        quiet()
        device = torch.device("cpu" if options.cpu else "cuda")
        bench = Bench(device, options.root, options.seeds, "test" if options.test else "val", options.cpu)
        dtype = fast_dtype(device)
        print(f"{name_of(device)}, torch {torch.__version__}, lightning {L.__version__}")
        rate, kind = matmul_rate(device, dtype), str(dtype).removeprefix("torch.")
        bench.tell("matrix products", f"{rate / 1e12:,.2f} TFLOP/s in {kind}")
        began = perf_counter()
        for name in options.only:
            if perf_counter() - began > 60 * options.minutes:
                bench.tell(name, f"not measured: {options.minutes:g} minutes are over")
                continue
            try:
                ROWS[name](bench)
            except (Exception, SystemExit) as error:  # one row must not cost the others
                bench.tell(name, f"not measured: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return bench.lines


if __name__ == "__main__":
    keep_freed_memory()
    main()
