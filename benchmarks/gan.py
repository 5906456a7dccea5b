"""Iterations per second of this project's adversarial training, against a bare PyTorch loop of the same steps.

    python -m benchmarks.gan [--root data] [--rounds R] [--steps N] [--batch_size B]

Both sides take MNIST's batches from the same data module's loader, scale them, and take one discriminator step on real
images and as many fakes in one pass, and one generator step on new fakes, with Adam, in bfloat16 if the CPU has it.
Our side is the GAN as `pipelines.train fit` trains it: both losses and both accuracies, the generator's weight average,
the check for finite losses, metrics.csv, an offline W&B run (if wandb is installed), the progress bar, two checkpoint
callbacks, and the random state in checkpoints. The bare loop has none of them. `without average` is ours without the
weight average, the only one of them that adds computation.

`dcgan` has the networks of that topic; `mlp` has fully connected ones so small that Lightning's overhead shows.

It also prints the Trainer's global_step after N iterations, which is N.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger

from benchmarks.device import autocast
from benchmarks.timing import Clock, Comparison, Rate, Variant, one_thread
from benchmarks.trainer_overhead import LOG_EVERY, WARM_UP, Stopwatch, Terminal, tracked
from common.errors import UserError
from common.machine.dtype_support import mixed_precision
from datamodules import MNIST, Digits, ImageDataModule
from modules import GAN
from pipelines.checkpoints.checkpoint_io import AtomicCheckpointIO
from pipelines.console.lightning_messages import quiet
from pipelines.console.progress_bar import ProgressBar
from pipelines.run.resume import RandomState

_CPU = torch.device("cpu")
BARE, OURS, PLAIN = "bare loop", "this project", "without average"
SETTINGS: dict[str, dict[str, Any]] = {
    "dcgan": {"generator_width": 32, "discriminator_width": 32},
    "mlp": {
        "generator": "fully_connected",
        "discriminator": "fully_connected",
        "generator_width": 128,
        "discriminator_width": 128,
        "generator_norm": "none",
    },
}


class Bench:
    """Bare loop and Trainer on one pair of networks and one data set.

    Args:
        data: Data module, after `setup`.
        settings: Settings of the GAN.
        steps: Number of measured iterations.
        folder: Folder of the run's files.
        loggers: Loggers of the run.
    """

    def __init__(
        self, data: ImageDataModule, settings: dict[str, Any], steps: int, folder: Path, loggers: list[Logger]
    ) -> None:
        self.data, self.settings, self.steps, self.folder, self.loggers = data, settings, steps, folder, loggers
        self.global_step = 0  # of the Trainer after its last run
        self.iterations = 0  # of that run

    def bare(self) -> Rate:
        """Measures the loop that one would write without Lightning."""
        model = self._model(ema_decay=0.0)
        generator, discriminator = model.generator, model.discriminator
        optimizers = [
            torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999)) for network in (generator, discriminator)
        ]
        self.data.trainer = None
        batches = iter(self.data.train_dataloader())
        started = Clock.now()
        for step in range(WARM_UP + self.steps):
            if step == WARM_UP:
                started = Clock.now()
            images, _ = self.data.on_after_batch_transfer(next(batches), 0)
            with autocast(_CPU, mixed_precision(_CPU)):
                with torch.no_grad():
                    fakes = generator(torch.randn(len(images), model.latent_size))
                real, fake = discriminator(torch.cat([images.to(fakes.dtype), fakes])).float().chunk(2)
                loss = -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean()
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()
            discriminator.requires_grad_(False)
            with autocast(_CPU, mixed_precision(_CPU)):
                fake = discriminator(generator(torch.randn(len(images), model.latent_size)))
                loss = -F.logsigmoid(fake.float()).mean()
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
            discriminator.requires_grad_(True)
        return Rate.of(self.steps, Clock.now() - started)

    def ours(self, **settings: Any) -> Rate:
        """Measures the Trainer as `pipelines.train fit` builds it."""
        stopwatch = Stopwatch(self.steps)
        names = partial(ModelCheckpoint, dirpath=self.folder / "checkpoints", enable_version_counter=False)
        best = names(filename="best", monitor="val/fid")
        last = names(filename="last", save_on_train_epoch_end=True)
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            precision=mixed_precision(_CPU),
            max_epochs=1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            log_every_n_steps=LOG_EVERY,
            default_root_dir=self.folder,
            enable_model_summary=False,
            logger=self.loggers,
            callbacks=[ProgressBar(), RandomState(), best, last, stopwatch],
        )
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        with redirect_stdout(Terminal()):
            trainer.fit(self._model(**settings), self.data)
        self.global_step = trainer.global_step
        self.iterations = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        return Rate.of(self.steps, stopwatch.time)

    def _model(self, **settings: Any) -> GAN:
        torch.manual_seed(0)
        shape = self.data.image_shape
        return GAN(shape, **self.settings, **settings).train()


def training_data(root: str, batch_size: int) -> ImageDataModule:
    """Returns MNIST, or scikit-learn's digits if its files are missing."""
    folder = Path(root) / "MNIST" / "raw"
    present = any((folder / name).is_file() for name in ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"))
    if not present:
        print(f"No MNIST files in {root}: measuring on scikit-learn's digits, 8×8, instead.")
    data: Callable[..., ImageDataModule] = MNIST if present else Digits
    return data(root=root, batch_size=batch_size, preprocessing="scale")


def main(arguments: Sequence[str] | None = None) -> dict[str, Comparison]:
    parser = argparse.ArgumentParser(description="Iterations per second of this project's GAN and of a bare loop.")
    parser.add_argument("--root", default="data", help="folder of the data sets, with MNIST")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--steps", type=int, default=50, help="iterations per measurement of dcgan; 4 times as many for mlp"
    )
    parser.add_argument("--batch_size", type=int, default=64)
    options = parser.parse_args(arguments)
    quiet()
    comparisons = {}
    with one_thread(), TemporaryDirectory() as folder, tracked(Path(folder)) as loggers:
        data = training_data(options.root, options.batch_size)
        data.setup("fit")
        for name, settings in SETTINGS.items():
            steps = options.steps * (4 if name == "mlp" else 1)
            if len(data.train_dataloader()) <= WARM_UP + steps:
                raise UserError(
                    f"An epoch has {len(data.train_dataloader())} batches of {options.batch_size}, too few for "
                    f"{WARM_UP + steps + 1}; use fewer --steps or a smaller --batch_size."
                )
            bench = Bench(data, settings, steps, Path(folder), loggers)
            variants = {
                BARE: Variant(bench.bare),
                OURS: Variant(bench.ours),
                PLAIN: Variant(partial(bench.ours, ema_decay=0.0)),
            }
            comparisons[name] = comparison = Comparison(variants, options.rounds)
            print(f"\n{name:<18}{'steps/s':>9}{'ms/step':>10}   of the {BARE:<16}the same by wall time")
            for variant in variants:
                rate, of_bare = comparison.rate(variant), comparison.ratio(variant, BARE)
                by_wall = comparison.ratio(variant, BARE, by_wall=True)
                print(f"{variant:<18}{rate:>9,.1f}{1000 / rate:>10.2f}   {of_bare!s:<23}{by_wall}", flush=True)
            print(f"global_step {bench.global_step} after {bench.iterations} iterations", flush=True)
    return comparisons


if __name__ == "__main__":
    main()
