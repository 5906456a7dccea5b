"""What the benchmarks share: alternating rounds, and ratios taken within a round.

On a machine with other work to do, absolute figures drift from minute to minute. So all variants run in turn, A, B, C,
A, B, C, …, in one process, and what is compared is the ratio within each round: its median, smallest and largest.

A rate is per second of CPU time of this process, which other programs hardly disturb; a variant with worker processes
is counted by wall time, and so is every comparison with it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

import torch


@dataclass(frozen=True)
class Clock:
    """A moment, or the time between two: CPU seconds of this process and seconds by the wall."""

    cpu: float
    wall: float

    @staticmethod
    def now() -> "Clock":
        return Clock(process_time(), perf_counter())

    def __sub__(self, earlier: "Clock") -> "Clock":
        return Clock(self.cpu - earlier.cpu, self.wall - earlier.wall)


@dataclass(frozen=True)
class Rate:
    """Things (images, steps) a second, by both clocks."""

    cpu: float
    wall: float

    @staticmethod
    def of(things: int, time: Clock) -> "Rate":
        return Rate(things / max(time.cpu, 1e-9), things / max(time.wall, 1e-9))


@dataclass(frozen=True)
class Figures:
    """Median, smallest and largest of one figure over the rounds."""

    median: float
    smallest: float
    largest: float

    @staticmethod
    def of(values: list[float]) -> "Figures":
        return Figures(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:6.2f} ({self.smallest:.2f}-{self.largest:.2f})"


@dataclass(frozen=True)
class Variant:
    """One way to do the job.

    Attributes:
        measure: does it once and says how fast it was.
        by_wall: whether it has processes of its own, whose work the CPU time of this one does not show.
    """

    measure: Callable[[], Rate]
    by_wall: bool = False


class Comparison:
    """Rates of some variants over alternating rounds.

    Args:
        variants: by name; each round runs them in this order.
        rounds: how many, at least 1.

    Raises:
        ValueError: no round asked for.
    """

    def __init__(self, variants: Mapping[str, Variant], rounds: int) -> None:
        if rounds < 1:
            raise ValueError(f"rounds is {rounds}; give at least 1.")
        self.variants = dict(variants)
        self.rates: dict[str, list[Rate]] = {name: [] for name in variants}
        for _ in range(rounds):
            for name, variant in variants.items():
                self.rates[name].append(variant.measure())

    def rate(self, name: str) -> float:
        """Median rate of a variant."""
        by_wall = self.variants[name].by_wall
        return median(rate.wall if by_wall else rate.cpu for rate in self.rates[name])

    def ratio(self, name: str, reference: str, by_wall: bool = False) -> Figures:
        """How many times as fast as `reference` a variant is, round by round."""
        by_wall = by_wall or self.variants[name].by_wall or self.variants[reference].by_wall
        pairs = zip(self.rates[name], self.rates[reference], strict=True)
        return Figures.of([mine.wall / its.wall if by_wall else mine.cpu / its.cpu for mine, its in pairs])


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread, so that CPU time and speed say the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
