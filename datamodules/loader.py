"""A batch loader for data that lies in memory: no worker processes, no per-sample Python, exact resume.

`torch.utils.data.DataLoader` fetches sample by sample and collates; for images of 32×32 pixels that costs more than the
training step itself. Here one call fetches a whole batch from one tensor.

Everything random is a function of (seed, epoch, step), never of what was drawn before. So the loader's whole state is
(epoch, step), and a run that was killed goes on with the very batch that it would have seen.

Under data-parallel training a step's global batch is `batch_size` × number of ranks consecutive samples of one common
shuffle, and each rank takes its share of it, augmentation included: two ranks with batches of 64 see what one process
with batches of 128 sees. In evaluation whole batches go to the ranks in turn. No sample is padded, repeated or left
out of an evaluation.

Samples of different length, such as captions, are padded to the longest of their batch. Where `lengths` are given, an
epoch's shuffle is cut into stretches of many global batches, each stretch is sorted by length before it is cut into
batches, and the batches are shuffled: a batch's samples are then about equally long, and which they are still differs
from epoch to epoch.

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

STRETCH = 50  # global batches sorted by length together: 1.1 % of the tokens of captions as long as COCO's are padding
_STREAM = 0x9E3779B97F4A7C15  # odd 64-bit constant (golden ratio) that spreads neighboring steps over all seeds


@dataclass(frozen=True)
class Batch:
    """Which samples one step takes, and the random stream that belongs to the step.

    Attributes:
        indices: the samples of this rank, (B,) int64.
        seed: seed of the step's random stream, the same on all ranks.
        global_size: G, the number of samples over all ranks.
        start: where this rank's samples begin within the global batch.
        epoch: in which the step is, counted from 0.
        run_seed: seed of the whole run, for what a sample draws once and keeps.
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

    def randint(self, high: int) -> Tensor:
        """Uniform integers in [0, high), (B,): drawn for the global batch, so that any number of ranks agrees."""
        draws = torch.randint(high, (self.global_size,), generator=self.generator)
        return draws[self.start : self.start + len(self.indices)]

    def rand(self) -> Tensor:
        """Uniform numbers in [0, 1), (B,) float32: drawn for the global batch, like `randint`."""
        draws = torch.rand(self.global_size, generator=self.generator)
        return draws[self.start : self.start + len(self.indices)]


class _Fetched(Dataset[Any]):
    """Lets `DataLoader` workers fetch whole batches: the "sample" for which it asks is a `Batch`."""

    def __init__(self, fetch: Callable[[Batch], Any]) -> None:
        self.fetch = fetch

    def __getitem__(self, batch: Batch) -> Any:
        try:
            return self.fetch(batch)
        except ValueError as error:  # DataLoader would wrap the worker's traceback around its sentence
            return ValueError(str(error))


def _as_it_is(batch: Any) -> Any:
    return batch


class BatchLoader:
    """Iterates over the batches of one epoch after the other; `len` is the number of steps of an epoch on this rank.

    Args:
        fetch: makes a batch (any structure of tensors) from a `Batch`.
        num_samples: number of samples of the data set, at least 1.
        batch_size: samples per step and rank, at least 1.
        training: shuffle, and give all ranks equally many full batches (the shuffle's remainder waits for another
            epoch; a data set smaller than one global batch is one batch). Otherwise go through all samples in order.
        seed: of the shuffle and of the batches' random streams.
        rank: this process among `world_size`.
        world_size: number of processes that share the data.
        num_workers: worker processes that call `fetch`; 0 calls it here. The batches are the same either way.
        lengths: of the samples, (N,) int64: training batches are made of samples of about equal length.

    Raises:
        ValueError: a size below 1, a negative number of workers, fewer samples than ranks, or other than N lengths.
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
    ) -> None:
        if num_samples < 1:
            raise UserError("The data set has no samples; give it at least one.")
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; give at least 1.")
        if num_workers < 0:
            raise UserError(f"num_workers is {num_workers}; give 0 (fetch in this process) or more.")
        if num_samples < world_size:
            raise UserError(
                f"{num_samples} samples can't be shared by {world_size} processes; "
                f"use more samples or at most {num_samples} devices."
            )
        if lengths is not None and lengths.shape != (num_samples,):
            raise UserError(f"lengths has shape {tuple(lengths.shape)}; give one length for each of {num_samples}.")
        self.fetch = fetch
        self.num_samples = num_samples
        self.lengths = lengths
        # Lightning lets no process go without a batch of its own, so a small evaluation set is cut finer.
        too_few = not training and -(-num_samples // batch_size) < world_size
        self.batch_size = num_samples // world_size if too_few else batch_size
        self.training = training
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.num_workers = num_workers
        self.epoch = 0
        self.step = 0  # the step that comes next
        self._begun = False  # whether a pass over (epoch, step) has begun, so that the next one is a new epoch

    def __len__(self) -> int:
        if self.training:
            return max(1, self.num_samples // (self.batch_size * self.world_size))
        batches = -(-self.num_samples // self.batch_size)
        return len(range(self.rank, batches, self.world_size))

    def __iter__(self) -> Iterator[Any]:
        if self._begun:
            self.epoch, self.step = self.epoch + 1, 0
        self._begun = True
        fetched = map(self.fetch, self._batches()) if self.num_workers == 0 else self._fetched_by_workers()
        for batch in fetched:
            self.step += 1  # counted when handed over: what workers fetched ahead is not part of the state
            yield batch

    def padding(self) -> float:
        """Share of padding in the epoch at which the loader stands, were all samples of a global batch padded alike."""
        if self.lengths is None:
            raise UserError("The loader was given no lengths, so it can't tell how much is padding; give it some.")
        batches = [self.lengths[batch] for batch in self._shuffled(self.epoch)[: len(self)]]
        return 1 - sum(int(batch.sum()) for batch in batches) / sum(len(batch) * int(batch.max()) for batch in batches)

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Leads to this loader: Lightning calls `set_epoch` on a loader's `batch_sampler.sampler`."""
        return SimpleNamespace(sampler=self)

    def set_epoch(self, epoch: int) -> None:
        """Makes the next pass that of `epoch`; one that was resumed in the middle of it goes on there.

        Lightning calls this before each epoch. It does not hand back the loader's state to a run that is resumed at
        the end of an epoch, so the epoch must come from its count.
        """
        if epoch != self.epoch or self._begun:
            self.step = 0
        self.epoch, self._begun = epoch, False

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands: epoch, steps done in it, and the seed that they follow from."""
        return {"epoch": self.epoch, "step": self.step, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where `state_dict` was taken; a finished epoch goes on with the next one."""
        self.epoch, self.step, self.seed = state["epoch"], state["step"], state["seed"]
        self._begun = self.step >= len(self)

    def _batches(self) -> Iterator[Batch]:
        """The rest of the epoch, from the step that comes next."""
        epoch, first_step = self.epoch, self.step
        if not self.training:
            for step in range(first_step, len(self)):
                start = (step * self.world_size + self.rank) * self.batch_size
                indices = torch.arange(start, min(start + self.batch_size, self.num_samples))
                yield Batch(indices, self._stream(epoch, start // self.batch_size), len(indices), 0, epoch, self.seed)
            return
        batches = self._shuffled(epoch)
        for step in range(first_step, len(self)):
            everyone = batches[step]
            shares = everyone.tensor_split(self.world_size)
            before = sum(len(share) for share in shares[: self.rank])
            yield Batch(shares[self.rank], self._stream(epoch, step), len(everyone), before, epoch, self.seed)

    def _shuffled(self, epoch: int) -> tuple[Tensor, ...]:
        """The global batches of a training epoch: `len(self)` of (G,) int64, after them what is left of the shuffle."""
        generator = torch.Generator().manual_seed(self._stream(epoch, -1))
        order = torch.randperm(self.num_samples, generator=generator)
        together = self.batch_size * self.world_size
        if self.lengths is None:
            return order.split(together)
        # What is left over is cut off before anything is sorted: else it would be the longest samples every time.
        stretches = order[: len(self) * together].split(STRETCH * together)
        sorted_ = torch.cat([stretch[self.lengths[stretch].argsort(stable=True)] for stretch in stretches])
        batches = sorted_.split(together)
        return tuple(batches[i] for i in torch.randperm(len(batches), generator=generator))

    def _stream(self, epoch: int, step: int) -> int:
        """Seed of the random stream of one step (or, with step -1, of an epoch's shuffle)."""
        key = ((self.seed * 0x10001 + epoch) * 0x1000003 + step + 1) * _STREAM
        return (key ^ (key >> 29)) & 0x7FFF_FFFF_FFFF_FFFF

    def _fetched_by_workers(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.seed)  # or DataLoader would draw from torch's global stream
        batches = DataLoader(
            _Fetched(self.fetch),
            batch_size=None,
            sampler=self._batches(),
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            generator=generator,
        )
        for batch in batches:
            if isinstance(batch, ValueError):
                raise batch
            yield batch
