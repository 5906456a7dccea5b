"""A batch loader for data in memory: no worker processes, no Python code per sample, exact resume.

`torch.utils.data.DataLoader` fetches sample by sample and collates; for images of 32×32 pixels that takes longer than
the training step itself. Here one call fetches a whole batch from one tensor.

Everything random is a function of (seed, epoch, step), independent of earlier draws. So the loader's state is just
(epoch, step), and a resumed run continues with the batch that comes next.

Under data-parallel training a step's global batch is `batch_size` × number of ranks consecutive samples of one common
shuffle, and each rank takes its share of it, augmentation included: two ranks with batches of 64 train on what one
process with batches of 128 trains on. In evaluation whole batches go to the ranks in turn. No sample is repeated or
left out of an evaluation.

Samples of different length, such as captions, are padded to the longest of their batch. Where `lengths` are given, an
epoch's shuffle is cut into chunks of many global batches, each chunk is sorted by length before it is cut into
batches, and the batches are shuffled: the samples of a batch then have about equal lengths, and still differ from
epoch to epoch.

Shapes: N samples of the data set, B of one batch on this rank, G of the step's global batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.errors import UserError
from common.messages.counting import count
from common.ranges import check_range
from datamodules.splits import balanced_order

CHUNK = 50  # global batches sorted by length together: 1.1 % of the tokens of captions as long as COCO's are padding
_STREAM = 0x9E3779B97F4A7C15  # odd 64-bit constant (golden ratio) that spreads neighboring steps over all seeds


@dataclass(frozen=True)
class Batch:
    """The samples of one step, and the step's random stream.

    Attributes:
        indices: Indices of this rank's samples, (B,) int64.
        seed: Seed of the step's random stream, the same on all ranks.
        global_size: G, the number of samples over all ranks.
        start: Index of this rank's first sample within the global batch.
        epoch: Epoch of the step, counted from 0.
        run_seed: Seed of the whole run, for numbers that a sample draws only once.
    """

    indices: Tensor
    seed: int
    global_size: int
    start: int
    epoch: int = 0
    run_seed: int = 0

    @cached_property
    def generator(self) -> torch.Generator:
        """The step's random stream."""
        return torch.Generator().manual_seed(self.seed)

    @property
    def span(self) -> slice:
        """The indices as a slice, for a batch of consecutive samples."""
        return slice(int(self.indices[0]), int(self.indices[-1]) + 1)

    def randint(self, high: int) -> Tensor:
        """Uniform integers in [0, high), (B,): drawn for the global batch, so that they don't depend on the ranks."""
        draws = torch.randint(high, (self.global_size,), generator=self.generator)
        return draws[self.start : self.start + len(self.indices)]

    def rand(self) -> Tensor:
        """Uniform numbers in [0, 1), (B,) float32: drawn for the global batch, like `randint`."""
        draws = torch.rand(self.global_size, generator=self.generator)
        return draws[self.start : self.start + len(self.indices)]


class _BatchDataset(Dataset[Any]):
    """Lets `DataLoader` workers fetch whole batches: its index is a `Batch`."""

    def __init__(self, fetch: Callable[[Batch], Any]) -> None:
        self.fetch = fetch

    def __getitem__(self, batch: Batch) -> Any:
        try:
            return self.fetch(batch)
        except ValueError as error:  # DataLoader would wrap the worker's traceback around the message
            return ValueError(str(error))


def _identity(batch: Any) -> Any:
    return batch


class BatchLoader:
    """Iterates over the batches of one epoch after another; `len` is the number of steps of an epoch on this rank.

    Args:
        fetch: Function that returns the tensors of a `Batch`, in any structure.
        num_samples: N, the number of samples of the data set, ≥ 1.
        batch_size: Samples per step and rank, ≥ 1.
        training: Whether to shuffle, and give all ranks the same number of full batches (the shuffle's remainder is
            dropped; a data set smaller than one global batch is one batch). Otherwise all samples come in order.
        seed: Seed of the shuffle and of the batches' random streams.
        rank: Index of this process, in [0, world_size).
        world_size: Number of processes that share the data.
        num_workers: Number of worker processes that call `fetch`, ≥ 0; 0 calls it in this process. The batches are the
            same either way.
        lengths: Lengths of the samples, (N,) int64; training batches then hold samples of about equal length.
        same_batches: Whether every training epoch has the batches of the first, for `Trainer(overfit_batches=...)`.
        classes: Class of each sample, (N,) int64; a training epoch then draws every class equally often, N samples in
            all: those of a rare class several times, and a part of those of a frequent one.

    Raises:
        ValueError: If num_samples or batch_size is < 1, num_workers is < 0, there are fewer samples than ranks, or
            `lengths` has another shape.
    """

    def __init__(
        self,
        fetch: Callable[[Batch], Any],
        num_samples: int,
        batch_size: int,
        *,
        training: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        lengths: Tensor | None = None,
        same_batches: bool = False,
        classes: Tensor | None = None,
    ) -> None:
        if num_samples < 1:
            raise UserError("The data set has no samples; give it at least one.")
        check_range("batch_size", batch_size, batch_size >= 1, "at least 1")
        check_range("num_workers", num_workers, num_workers >= 0, "at least 0, which fetches in this process")
        if num_samples < world_size:
            raise UserError(
                f"{count(num_samples, 'sample')} can't be shared by {count(world_size, 'process')}; "
                f"use more samples or at most {count(num_samples, 'device')}."
            )
        if lengths is not None and lengths.shape != (num_samples,):
            raise UserError(f"lengths has shape {tuple(lengths.shape)}; it must have shape ({num_samples},).")
        self.fetch = fetch
        self.num_samples = num_samples
        self.lengths = lengths
        # Lightning needs a batch on each process, so a small evaluation set is cut into smaller batches.
        too_few = not training and -(-num_samples // batch_size) < world_size
        self.batch_size = num_samples // world_size if too_few else batch_size
        self.training = training
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.num_workers = num_workers
        self.same_batches = same_batches
        self.classes = classes
        self.epoch = 0
        self.step = 0  # the next step
        self._started = False  # whether an iteration from (epoch, step) has started, so that the next is a new epoch

    def __len__(self) -> int:
        if self.training:
            return max(1, self.num_samples // (self.batch_size * self.world_size))
        batches = -(-self.num_samples // self.batch_size)
        return len(range(self.rank, batches, self.world_size))

    def __iter__(self) -> Iterator[Any]:
        if self._started:
            self.epoch, self.step = self.epoch + 1, 0
        self._started = True
        for batch in map(self.fetch, self._batches()) if self.num_workers == 0 else self._fetch_in_workers():
            self.step += 1  # counted when it is returned, since the state excludes what workers prefetched
            yield batch

    def padding(self) -> float:
        """Fraction of padding in the current epoch, if each global batch were padded to its longest sample."""
        if self.lengths is None:
            raise UserError("The loader has no lengths to compute the padding from; give it lengths.")
        batches = [self.lengths[batch] for batch in self._shuffled(self.epoch)[: len(self)]]
        return 1 - sum(int(batch.sum()) for batch in batches) / sum(len(batch) * int(batch.max()) for batch in batches)

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """An object whose `sampler` is this loader: Lightning calls `loader.batch_sampler.sampler.set_epoch`."""
        return SimpleNamespace(sampler=self)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next iteration, which continues at the step of a resumed epoch.

        Lightning calls this before each epoch. It doesn't restore the loader's state in a run that is resumed at the
        end of an epoch, so the epoch has to come from here.
        """
        if epoch != self.epoch or self._started:
            self.step = 0
        self.epoch, self._started = epoch, False

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch, the number of its steps done, and the seed."""
        return {"epoch": self.epoch, "step": self.step, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues from a state of `state_dict`; after a finished epoch, with the next one.

        Raises:
            ValueError: If the state is damaged.
        """
        values = [state.get(name) if isinstance(state, dict) else None for name in ("epoch", "step", "seed")]
        if not all(type(value) is int and value >= 0 for value in values):
            raise UserError(
                f"The position in the training data in the checkpoint is {str(state)[:80]}, not three counts epoch, "
                "step and seed; use another checkpoint of the run."
            )
        self.epoch, self.step, self.seed = state["epoch"], state["step"], state["seed"]
        self._started = self.step >= len(self)

    def _batches(self) -> Iterator[Batch]:
        """Yields the rest of the epoch, from the next step on."""
        epoch, first_step = self.epoch, self.step
        if not self.training:
            for step in range(first_step, len(self)):
                start = (step * self.world_size + self.rank) * self.batch_size
                indices = torch.arange(start, min(start + self.batch_size, self.num_samples))
                yield Batch(indices, self._stream(epoch, start // self.batch_size), len(indices), 0, epoch, self.seed)
            return
        batches = self._shuffled(epoch)
        for step in range(first_step, len(self)):
            global_batch = batches[step]
            shares = global_batch.tensor_split(self.world_size)
            start = sum(len(share) for share in shares[: self.rank])
            yield Batch(shares[self.rank], self._stream(epoch, step), len(global_batch), start, epoch, self.seed)

    def _shuffled(self, epoch: int) -> tuple[Tensor, ...]:
        """The global batches of a training epoch: `len(self)` of (G,) int64, then the remainder of the shuffle."""
        generator = torch.Generator().manual_seed(self._stream(0 if self.same_batches else epoch, -1))
        order = torch.randperm(self.num_samples, generator=generator)
        order = order if self.classes is None else balanced_order(order, self.classes)
        global_size = self.batch_size * self.world_size
        if self.lengths is None:
            return order.split(global_size)
        # The remainder is dropped before sorting, or it would be the longest samples in every epoch.
        chunks = order[: len(self) * global_size].split(CHUNK * global_size)
        batches = torch.cat([chunk[self.lengths[chunk].argsort(stable=True)] for chunk in chunks]).split(global_size)
        return tuple(batches[i] for i in torch.randperm(len(batches), generator=generator))

    def _stream(self, epoch: int, step: int) -> int:
        """Seed of the random stream of a step, or of an epoch's shuffle if step is −1."""
        key = ((self.seed * 0x10001 + epoch) * 0x1000003 + step + 1) * _STREAM
        return (key ^ (key >> 29)) & 0x7FFF_FFFF_FFFF_FFFF

    def _fetch_in_workers(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.seed)  # or DataLoader would draw from torch's global generator
        batches = DataLoader(
            _BatchDataset(self.fetch),
            batch_size=None,
            sampler=self._batches(),
            collate_fn=_identity,
            num_workers=self.num_workers,
            generator=generator,
        )
        for batch in batches:
            if isinstance(batch, ValueError):
                raise batch
            yield batch
