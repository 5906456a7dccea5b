"""A mixture of Gaussians in one dimension: data whose density is known, for a GAN that can be drawn as a whole.

    p(x) = Σ_k π_k N(x; μ_k, σ_k²)

Each number is an image of one pixel in [−1, 1], so that a GAN of fully connected networks trains on it unchanged.

    python -m pipelines.train fit --config gan_1d

Shapes: N samples of a split, B of a batch, K components.
"""

import os
from collections.abc import Sequence
from math import pi, sqrt
from typing import Any

import lightning as L
import torch
from torch import Tensor

from common.errors import UserError
from common.ranges import check_range
from datamodules.device_placement import on_training_device
from datamodules.input_dtype import to_input_dtype
from datamodules.loader import BatchLoader

_DEVIATIONS = 4  # of each component that must lie in [−1, 1]


class GaussianMixture(L.LightningDataModule):
    """Samples (1, 1, 1) of a mixture of Gaussians, with their component as the label.

    Args:
        means: Means μ_k of the K components.
        stds: Standard deviations σ_k, each > 0; μ_k ± 4 σ_k must lie in [−1, 1].
        weights: Weights π_k, each > 0, with sum 1; None for equal ones.
        batch_size: Samples per step and process, ≥ 1.
        num_train: Number of training samples, ≥ 1.
        num_val: Number of validation samples, and of test samples, ≥ 1.
        draw_seed: Seed of the samples, ≥ 0, independent of the training seed.

    Raises:
        ValueError: If a value is out of its range, or the lists differ in length.
    """

    input_shape = (1, 1, 1)

    def __init__(
        self,
        means: Sequence[float] = (-0.4, 0.4),
        stds: Sequence[float] = (0.12, 0.12),
        weights: Sequence[float] | None = None,
        batch_size: int = 512,
        num_train: int = 50_000,
        num_val: int = 10_000,
        draw_seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("num_train", num_train), ("num_val", num_val)):
            check_range(name, value, value >= 1, "at least 1")
        check_range("draw_seed", draw_seed, draw_seed >= 0, "at least 0")
        weights = [1 / max(1, len(means))] * len(means) if weights is None else weights
        if not len(means) == len(stds) == len(weights) or not means:
            raise UserError(
                f"means, stds and weights have {len(means)}, {len(stds)} and {len(weights)} values; give one of each "
                "for every component."
            )
        check_range("stds", list(stds), min(stds) > 0, "> 0")
        valid = min(weights) > 0 and abs(sum(weights) - 1) < 1e-6
        check_range("weights", list(weights), valid, "> 0, with sum 1")
        for mean, std in zip(means, stds, strict=True):
            if abs(mean) + _DEVIATIONS * std > 1:
                raise UserError(
                    f"A component has mean {mean} and standard deviation {std}, but its mean ± {_DEVIATIONS} standard "
                    "deviations must lie in [-1, 1], where a GAN generates; move it or make it narrower."
                )
        self.means, self.stds, self.weights = (torch.tensor(list(part)).double() for part in (means, stds, weights))
        self.batch_size = batch_size
        self.sizes = {"train": num_train, "val": num_val, "test": num_val}
        self.draw_seed = draw_seed
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}  # name: samples (N, 1, 1, 1) float32, labels (N,) int64

    @property
    def num_classes(self) -> int:
        """Number of components."""
        return len(self.means)

    def density(self, x: Tensor) -> Tensor:
        """Returns the density p(x) of values x of any shape, in float64."""
        z = (x.double().cpu()[..., None] - self.means) / self.stds
        return ((-(z**2) / 2).exp() * self.weights / (self.stds * sqrt(2 * pi))).sum(-1)

    def setup(self, stage: str) -> None:
        """Draws the samples of the stage, unless they are drawn."""
        for index, (name, number) in enumerate(self.sizes.items()):
            if name not in self.splits and (name == "test") == (stage == "test"):
                generator = torch.Generator().manual_seed(3 * self.draw_seed + index)
                labels = torch.multinomial(self.weights, number, replacement=True, generator=generator)
                noise = torch.randn(number, generator=generator, dtype=torch.float64)
                values = (self.means[labels] + self.stds[labels] * noise).float()
                self.splits[name] = values.view(-1, 1, 1, 1), labels

    def train_dataloader(self) -> BatchLoader:
        """Shuffled batches of samples (B, 1, 1, 1) and labels (B,)."""
        return self._loader("train")

    def val_dataloader(self) -> BatchLoader:
        """Batches of the validation samples in order."""
        return self._loader("val")

    def test_dataloader(self) -> BatchLoader:
        """Batches of the test samples in order."""
        return self._loader("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Converts samples to the dtype of the run."""
        if isinstance(batch, Tensor):
            return to_input_dtype(self.trainer, batch)
        samples, labels = batch
        return to_input_dtype(self.trainer, samples), labels

    def _loader(self, split: str) -> BatchLoader:
        self.setup("test" if split == "test" else "fit")
        samples, labels = on_training_device(self.trainer, self.splits[split])
        return BatchLoader(
            lambda batch: (samples[batch.indices], labels[batch.indices]),
            len(labels),
            self.batch_size,
            training=split == "train",
            seed=int(os.environ.get("PL_GLOBAL_SEED", "0")),  # set by Lightning's seed_everything
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            same_batches=bool(getattr(self.trainer, "overfit_batches", 0)),
        )
